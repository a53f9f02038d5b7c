"""The live run as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.estimator.predict import FACTORS, OURS, error
from bench.estimator.report import NAMES, percent

CLOSE = 0.2
"""Relative error from which on a curve says what is true."""


def markdown(found: Mapping[str, Any]) -> str:
    cases, changes = found["cases"], found["changes"]
    sources = list(dict.fromkeys(c["source"] for c in changes))
    lines = [
        "Median error of predicted mean latency, all upstreams and both loads together, against",
        "what clients had when that load was driven. Last column: Erlang's formula, which knows",
        "the true slots, against the same; that much is chance, the proxy and the machine.",
        "",
    ]
    for source in sources:
        mine = [c for c in cases if c["source"] == source]
        windows = sorted({c["windows"] for c in mine})
        lines += [f"{source}, {windows[0]} windows:" if mine else f"{source}: no windows.", ""]
        lines += [*_table(mine), ""] if mine else []
    lines += [
        "By upstream: Eigenmesh / Erlang's formula.",
        "",
        *_by_upstream(cases),
        "",
        "Upstream `a` loses half its slots under steady load (40%, then 80% of capacity) and gets",
        "them back. Seconds (windows) until the curve says so, and until it stays within "
        f"{CLOSE:.0%}:",
        "",
        *_changes(changes),
        "",
        "Changes believed before, while there were none but of load: "
        + ", ".join(f"{source} {n}" for source, n in found["false alarms"].items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _median(cases: Sequence[Mapping[str, Any]], who: str | None, factor: str) -> float:
    """who: None is Erlang's formula."""
    errors = [
        error((c["erlang"] if who is None else c["predicted"][who])[factor], c["truth"][factor])
        for c in cases
        if factor in c["truth"]
    ]
    return float(np.median(errors)) if errors else float("nan")


def _table(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| load | " + " | ".join(NAMES) + " | Erlang |",
        "|---" * (len(NAMES) + 2) + "|",
    ]
    for f in FACTORS:
        cells = [percent(_median(cases, who, str(f))) for who in (*NAMES, None)]
        lines.append(f"| {f - 1:+.0%} | {' | '.join(cells)} |")
    return lines


def _by_upstream(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| source | upstream | observed at | capacity (error stated) | "
        + " | ".join(f"{f - 1:+.0%}" for f in FACTORS)
        + " |",
        "|---" * (len(FACTORS) + 4) + "|",
    ]
    for c in cases:
        cells = [
            f"{percent(_median([c], OURS, str(f)))} / {percent(_median([c], None, str(f)))}"
            if str(f) in c["truth"]
            else "-"
            for f in FACTORS
        ]
        capacity = (
            f"{c['capacity']:.0f} of {c['capacity_truth']:.0f} ({percent(c['capacity_error'])})"
        )
        lines.append(
            f"| {c['source']} | {c['upstream']} | {c['utilisation']:.0%} | {capacity} "
            f"| {' | '.join(cells)} |"
        )
    return lines


def _changes(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| event | source | a change is noticed | capacity | latency at this load |",
        "|---|---|---|---|---|",
    ]
    for c in changes:
        curves = c["curves"]
        noticed = [curve["changed"] for curve in curves]
        cells = [_since(curves, noticed)]
        for what in ("capacity", "latency"):
            close = [error(curve[what], c[f"{what}_truth"]) < CLOSE for curve in curves]
            cells.append(_since(curves, [all(close[i:]) for i in range(len(close))]))
        lines.append(f"| {c['event']} | {c['source']} | {' | '.join(cells)} |")
    return lines


def _since(curves: Sequence[Mapping[str, Any]], true: Sequence[bool]) -> str:
    if True not in true:
        return "not"
    first = true.index(True)
    return f"{curves[first]['seconds']:.1f} s ({first + 1})"
