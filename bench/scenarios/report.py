"""Raw figures, tables and plots of scenarios, and the summary in docs/results.md."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path as File
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.scenarios.figures import Verdict, verdicts
from bench.scenarios.model import Scenario, Target

Document = dict[str, Any]
"""{"twin" or "envoy": {scenario: {"about", "seconds", "machine", "cases": [...]}}}; a case has what
was varied ("case"), the "targets", and the figures of its "repetitions", by policy and span."""

KINDS = {
    "envoy": "measured on a real Envoy",
    "twin": "simulated (the offline twin; no Envoy, classical solvers only)",
}
BEGIN, END = "<!-- scenarios: written by bench.scenarios -->", "<!-- scenarios: end -->"
MEAN_OFF, P99_OFF = 0.10, 0.20
"""How far the twin may be off."""
_COLUMNS = (
    ("mean, ms", "mean", 1e3, 1),
    ("p99, ms", "p99", 1e3, 0),
    ("success, %", "success", 100.0, 2),
    ("goodput, 1/s", "goodput", 1.0, 0),
    ("blocked, %", "blocked", 100.0, 2),
    ("churn, 1/min", "churn", 1.0, 2),
    ("with egress, ms", "cost", 1e3, 1),
)


def read(path: File) -> Document:
    if not path.exists():
        return {}
    found: Document = json.loads(path.read_text())
    return found


def case_of(
    scenario: Scenario, repetitions: Sequence[Mapping[str, Any]], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """One case of a document."""
    targets = [
        {k: v for k, v in asdict(t).items() if v not in (None, {})} for t in scenario.targets
    ]
    return {
        "case": dict(scenario.case),
        "targets": targets,
        "repetitions": list(repetitions),
        **extra,
    }


def judged(case: Mapping[str, Any]) -> list[Verdict]:
    targets = [Target(**target) for target in case["targets"]]
    return verdicts(targets, case["case"], case["repetitions"])


def write(document: Document, results: File, docs: File | None) -> str:
    """Writes scenarios.json and scenarios.md into `results`, and the summary into `docs` where its
    marks are; returns the tables."""
    results.mkdir(parents=True, exist_ok=True)
    (results / "scenarios.json").write_text(
        json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n"
    )
    text = tables(document)
    (results / "scenarios.md").write_text(text)
    if docs is not None and docs.exists():
        page = docs.read_text()
        head, begin, rest = page.partition(BEGIN)
        _, end, tail = rest.partition(END)
        if begin and end:
            docs.write_text(f"{head}{BEGIN}\n\n{summary(document)}\n{END}{tail}")
    return text


def summary(document: Document) -> str:
    """Every target of every case, and whether it was met."""
    lines = ["| scenario | case | target | Eigenmesh | from | met |", "|---|---|---|---|---|---|"]
    for kind, name, case in _cases(document):
        by = "Envoy" if kind == "envoy" else "simulated"
        for one in judged(case):
            met = "yes" if one.met else "**no**"
            lines.append(
                f"| {name} | {_label(case)} | {_says(one.target)} | {_shown(one)} | {by} | {met} |"
            )
    return "\n".join(lines) + "\n"


def tables(document: Document) -> str:
    lines = ["# Scenarios", "", "`make bench-scenarios`; the raw figures are in `scenarios.json`."]
    for kind, said in KINDS.items():
        if kind not in document:
            continue
        lines += ["", f"## {said[0].upper()}{said[1:]}"]
        for name, one in sorted(document[kind].items()):
            lines += ["", f"### {name}", "", one["about"], ""]
            lines += [f"{one['machine']}; {one['seconds']:g} s each.", ""]
            for case in one["cases"]:
                lines += _table(case)
    lines += _compared(document)
    return "\n".join(lines) + "\n"


def _compared(document: Document) -> list[str]:
    """Where both have played the same case: how far the twin is off the real Envoy."""
    rows: list[tuple[str, float, float]] = []
    for kind, name, real in _cases(document):
        for other, same, twin in _cases(document):
            if kind == "envoy" and other == "twin" and name == same and _alike(real, twin):
                rows += _rows(name, real, twin)
    if not rows:
        return []
    near = sum(mean <= MEAN_OFF and p99 <= P99_OFF for _, mean, p99 in rows)
    return [
        "",
        "## The twin against the real Envoy",
        "",
        f"Medians against medians; {near} of {len(rows)} are within {MEAN_OFF:.0%} (mean) and "
        f"{P99_OFF:.0%} (p99).",
        "",
        "| scenario | case | span | policy | Envoy, mean / p99, ms | twin | off |",
        "|---|---|---|---|---|---|---|",
        *(row for row, _, _ in rows),
    ]


def _alike(real: Mapping[str, Any], twin: Mapping[str, Any]) -> bool:
    return all(real.get(key) == twin.get(key) for key in ("case", "set"))


def _rows(
    name: str, real: Mapping[str, Any], twin: Mapping[str, Any]
) -> Iterator[tuple[str, float, float]]:
    """A line of the table, and by how much mean and p99 are off (fractions)."""
    first = real["repetitions"][0]
    for policy in (p for p in first if p in twin["repetitions"][0]):
        for span in first[policy]:
            (m, p), (tm, tp) = (
                [
                    1e3 * statistics.median(run[policy][span][figure] for run in one["repetitions"])
                    for figure in ("mean", "p99")
                ]
                for one in (real, twin)
            )
            mean, p99 = tm / m - 1.0, tp / p - 1.0
            yield (
                f"| {name} | {_label(real)} | {span} | {policy} | {m:.1f} / {p:.0f} "
                f"| {tm:.1f} / {tp:.0f} | {mean:+.0%} / {p99:+.0%} |",
                abs(mean),
                abs(p99),
            )


def _table(case: Mapping[str, Any]) -> list[str]:
    runs = case["repetitions"]
    spans = [span for span in next(iter(runs[0].values())) if span != "run"] or ["run"]
    lines = [f"**{_label(case)}**, medians of {len(runs)} repetitions, range in brackets", ""]
    if "speed" in case:
        # Only where it was simulated.
        lines[0] += (
            f"; {case['speed']:.3g} simulated seconds per second, slowest decision "
            f"{case['tick']:.2g} s"
        )
    head = " | ".join(title for title, *_ in _COLUMNS)
    lines += [f"| span | policy | {head} |", "|---" * (len(_COLUMNS) + 2) + "|"]
    for span in spans:
        for policy in runs[0]:
            cells = [
                _spread([scale * run[policy][span][figure] for run in runs], digits)
                for _, figure, scale, digits in _COLUMNS
            ]
            lines.append(f"| {span} | {policy} | {' | '.join(cells)} |")
    lines.append("")
    lines += [
        f"- {'met' if one.met else 'MISSED'}: {_says(one.target)}: {_shown(one)}"
        for one in judged(case)
    ]
    return [*lines, ""]


def _cases(document: Document) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for kind in KINDS:
        for name, one in sorted(document.get(kind, {}).items()):
            for case in one["cases"]:
                yield kind, name, case


def _label(case: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in case["case"].items()) or "as it is"


def _says(target: Target) -> str:
    bound = f"at most {target.most:g}" if target.most is not None else f"at least {target.least:g}"
    of = f" of {target.upstream}" if target.upstream else ""
    against = f" times {target.against}'s" if target.against else ""
    return f"{target.figure}{of}, {target.span}: {bound}{against}"


def _shown(one: Verdict) -> str:
    return _spread_of(one.value, one.low, one.high, 3)


def _spread(values: Sequence[float], digits: int) -> str:
    return _spread_of(statistics.median(values), min(values), max(values), digits)


def _spread_of(middle: float, low: float, high: float, digits: int) -> str:
    if math.isinf(middle):
        return "∞"
    shown = f"{middle:.{digits}f}"
    return shown if low == high else f"{shown} ({low:.{digits}f}–{high:.{digits}f})"


def plot(
    scenario: Scenario,
    windows: Mapping[str, Mapping[str, Sequence[float]]],
    folder: File,
    said: str,
) -> None:
    """Second by second: mean and p99 of every policy, and what was answered within the SLO. Writes
    scenario_NAME.svg, or one for each case."""
    label = "".join(f"-{value}" for value in scenario.case.values())
    path = folder / f"scenario_{scenario.name}{label}.svg"
    panels = (("mean", "mean of the answered, ms", 1e3), ("p99", "p99, ms", 1e3),
              ("good", f"answered within {1e3 * scenario.slo:g} ms, 1/s", 1.0))  # fmt: skip
    figure = Figure(figsize=(9.0, 7.5))
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axis, (column, title, scale) in zip(axes, panels, strict=True):
        for policy, columns in windows.items():
            values = scale * np.array(columns[column])
            values[~np.isfinite(values)] = np.nan  # a second without an answer is a gap
            axis.plot(values, label=policy, linewidth=1.8 if policy == "Eigenmesh" else 0.9)
        for event in scenario.events:
            axis.axvline(event.at, color="0.7", linestyle=":", linewidth=0.8)
        if column != "good":
            axis.set_yscale("log")
        axis.set_title(title, fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("seconds", fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="upper center", ncols=4, frameon=False)
    figure.suptitle(f"{scenario.name}: {said}", fontsize=9, y=0.02)
    figure.tight_layout(rect=(0.0, 0.03, 1.0, 0.93))
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "eigenmesh"}):
        figure.savefig(path, metadata={"Date": None})
