"""The report: one HTML file with everything in it, nothing loaded from elsewhere."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from eigenmesh import __version__
from eigenmesh.demo import phases, stage
from eigenmesh.demo.messages import action, contests
from eigenmesh.demo.oracle import Optimum
from eigenmesh.demo.outcome import ROWS, Outcome
from eigenmesh.demo.results import Stats
from eigenmesh.demo.view import recovery_sentence, wins_sentence

_CLUSTERS = tuple(u.name for u in stage.UPSTREAMS)
_SHORT = {
    "Eigenmesh takes over": "take-over",
    "Eigenmesh is told to only watch": "references",
}
_HONESTY = (
    "In every round of a decision a circuit and a classical solver answer the same question, and "
    "the better plan under the same objective is taken. The circuits (born-machine, qaoa) are "
    "simulated on PennyLane's lightning.qubit: no quantum hardware took part, and the simulation "
    "costs more time than the classical solver beside it. On a mesh this small both usually find "
    "the same plan."
)
_JUDGED = (
    "A request counts as failed because of a push if, while Eigenmesh steered, it got neither "
    "a 200, nor a breaker's rejection (503 with x-envoy-overloaded), nor ran into the client's "
    "patience of 5 s in an upstream's queue: the upstreams of this demo make no errors of their "
    "own. The counters are Envoy's: upstream connections destroyed with a request on them, resets, "
    "failed connects, requests without a route or cluster, and refused xDS updates."
)
_TABLE_NOTE = (
    "Requests rejected by a breaker are in the errors and not in the latencies: a fast 503 is not "
    "fast. A request that was never answered counts with its age when it was given up, which "
    "flatters whoever kept it waiting. The policies met the same arrivals and the same service "
    "demands in the measured phases with the same length. This is one run on one machine, whose "
    "cores the load, the upstreams and Envoy share: differences of about 5% in a mean and 12% in "
    "a p99 are noise; bench/results/ has repetitions."
)


def write_report(outcome: Outcome) -> Path:
    """Writes report.html into the run's folder; returns its path."""
    template = Template(files("eigenmesh.demo").joinpath("report.html").read_text("utf-8"))
    path = outcome.folder / "report.html"
    text = json.dumps(chart_data(outcome), separators=(",", ":")).replace("</", "<\\/")
    source = "Prometheus" if outcome.prometheus else "Envoy's own /stats/prometheus"
    path.write_text(
        template.substitute(
            subtitle=escape(
                f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(outcome.scene.started))} · "
                f"{stage.DEMAND:.0f} requests/s in open loop over two routes, "
                f"{len(stage.UPSTREAMS)} upstreams of "
                f"{', '.join(f'{u.capacity:.0f}' for u in stage.UPSTREAMS)} requests/s, one Envoy; "
                f"metrics from {source}"
            ),
            headline=_headline(outcome),
            table=_table(outcome),
            table_note=_TABLE_NOTE + (f" <b>{outcome.busy}</b>" if outcome.busy else ""),
            recovery=escape(recovery_sentence(outcome)),
            wins=escape(wins_sentence(outcome)),
            honesty=_HONESTY,
            checks="".join(
                f'<li class="{"yes" if c.ok else "no"}">{escape(c.says)}</li>'
                for c in outcome.checks
            ),
            judged=_JUDGED,
            decisions=_decisions(outcome),
            footer=f"Eigenmesh {__version__}. Raw figures: requests.npz, decisions.jsonl and "
            "summary.json beside this file.",
            data=text,
        ),
        encoding="utf-8",
    )
    return path


def _headline(outcome: Outcome) -> str:
    before = outcome.stats[phases.INCUMBENT]
    own = outcome.stats[phases.STEADY]
    oracle = outcome.stats[phases.ORACLE]
    least = outcome.stats[phases.LEAST_REQUEST]
    back = "not back" if outcome.recovery is None else f"{outcome.recovery:.1f} s"
    cards = [
        (f"{_ms(before.mean)} → {_ms(own.mean)} ms", "mean latency, before and with Eigenmesh"),
        (_more(own.mean, oracle.mean), "mean, against the oracle"),
        (_more(own.mean, least.mean), "mean, against LEAST_REQUEST"),
        (back, "to recover from the degradation"),
    ]
    return "".join(f'<div class="card"><b>{a}</b>{escape(b)}</div>' for a, b in cards)


def _more(value: float, reference: float) -> str:
    return f"{(value / reference - 1) * 100:+.0f}%".replace("-", "−")


def _table(outcome: Outcome) -> str:
    head = ["", "mean ms", "p50 ms", "p99 ms", f"within {stage.SLO * 1e3:.0f} ms", "", "errors"]
    rows = []
    for name, label in ROWS.items():
        stats = outcome.stats[name]
        kind = {phases.STEADY: "own", phases.DEGRADED: "break"}.get(name, "")
        rows.append((kind, [label, *_cells(stats)]))
    return _html_table(head, rows)


def _cells(stats: Stats) -> list[str]:
    return [
        *(_ms(stats.mean), _ms(stats.p50), _ms(stats.p99)),
        *(f"{stats.goodput:.0f}/s", f"{stats.good:.1%}", str(stats.errors)),
    ]


def _decisions(outcome: Outcome) -> str:
    rows = []
    for d in outcome.scene.decisions:
        when = d.time.ToNanoseconds() / 1e9 - outcome.scene.started
        gain = (
            f"{_ms(d.incumbent_predicted)} → {_ms(d.predicted)}"
            if d.HasField("predicted") and d.HasField("incumbent_predicted")
            else "-"
        )
        scores = [
            f"{part}: " + ", ".join(f"{c.solver} {_ms(c.objective)}" for c in met)
            for part, met in dict(contests(d)).items()
        ]
        made = "; ".join(scores) or "-"
        rows.append(("", [str(d.number), f"{when:.1f} s", action(d), gain, made, d.why]))
    return _html_table(["number", "at", "", "objective, ms", "solvers, ms", "why"], rows)


def _html_table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        f'<tr class="{kind}">' + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>"
        for kind, cells in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


# ---------------------------------------------------------------------- plots


def chart_data(outcome: Outcome) -> dict[str, Any]:
    """What the page's script draws. Times in seconds since the demo started."""
    start = outcome.scene.started
    spans = [
        {"name": s.name, "start": s.start - start, "end": s.end - start, "reference": s.reference}
        for s in outcome.scene.spans
    ]
    events = [
        {"t": e.time - start, "says": e.says, "short": _SHORT.get(e.says, e.says)}
        for e in outcome.scene.events
        if e.kind in ("eigenmesh", "upstream")
    ]
    latency = _latency_series(outcome)
    limits = _limit_series(outcome)
    worst = max((v for line in latency for v in line["v"] if v is not None), default=1000.0)
    tightest = min((v for line in limits for v in line["v"] if v is not None), default=8)
    return {
        "end": max((s.end - start for s in outcome.scene.spans), default=1.0),
        "slo": stage.SLO * 1e3,
        "phases": spans,
        "events": events,
        "series": {
            "latency": latency,
            "weights": _weight_series(outcome),
            "limits": limits,
        },
        "ranges": {"latency": [8, max(1000.0, worst)], "limits": [min(8, tightest), 1024]},
    }


def _line(
    label: str, colour: str, points: Iterable[tuple[float, float | None]], **style: Any
) -> dict[str, Any]:
    pairs = list(points)
    return {
        "label": label,
        "colour": colour,
        "t": [round(t, 2) for t, _ in pairs],
        "v": [None if v is None or math.isnan(v) else round(v, 3) for _, v in pairs],
        "width": 2,
        "opacity": 1,
        **style,
    }


def _latency_series(outcome: Outcome) -> list[dict[str, Any]]:
    start = outcome.scene.started
    bins = outcome.timeline
    return [
        _line("p99", "p99", ((b.time - start, b.p99 * 1e3) for b in bins), width=1.4),
        _line("mean", "mean", ((b.time - start, b.mean * 1e3) for b in bins)),
    ]


def _steered_samples(outcome: Outcome) -> list[Any]:
    """Samples up to the end of the last phase whose traffic Eigenmesh's routes carried."""
    end = max((s.end for s in outcome.scene.spans if not s.reference), default=math.inf)
    return [s for s in outcome.scene.samples if s.time <= end]


def _weight_series(outcome: Outcome) -> list[dict[str, Any]]:
    start, samples = outcome.scene.started, _steered_samples(outcome)
    lines = []
    for name in _CLUSTERS:
        for route in stage.ROUTES:
            points = ((s.time - start, s.weights[route][name] * 100) for s in samples)
            lines.append(_line("", name, points, width=1, opacity=0.45, step=True))
        # Both routes carry the same load, so the share of all traffic is their mean.
        shares = (
            (
                s.time - start,
                sum(s.weights[r][name] for r in stage.ROUTES) / len(stage.ROUTES) * 100,
            )
            for s in samples
        )
        lines.append(_line(name, name, shares, step=True, width=2.4))
        lines.append(_line("", name, _oracle_points(outcome, name), dash="2 4", width=1.6))
    return lines


def _oracle_points(outcome: Outcome, name: str) -> list[tuple[float, float | None]]:
    """The oracle's share in percent while Eigenmesh steers."""
    start = outcome.scene.started
    points: list[tuple[float, float | None]] = []
    for span in outcome.scene.spans:
        if span.name in phases.STEERED_PHASES:
            best: Optimum = stage.oracle(degraded=span.name == phases.DEGRADED)
            share = best.weights[name] * 100
            points += [(span.start - start, share), (span.end - start, share)]
            points.append((span.end - start, None))
    return points


def _limit_series(outcome: Outcome) -> list[dict[str, Any]]:
    start, samples = outcome.scene.started, _steered_samples(outcome)
    return [
        _line(
            name,
            name,
            ((s.time - start, s.limits.get(name)) for s in samples),
            step=True,
            width=2.4,
        )
        for name in _CLUSTERS
    ]


def _ms(seconds: float) -> str:
    ms = seconds * 1e3
    if math.isnan(ms):
        return "-"
    return f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"
