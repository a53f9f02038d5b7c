"""The bench's results as tables and as a plot. Cells are medians: floor, Eigenmesh, their ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from bench.xds.svg import Panel, Series, figure

Trial = Mapping[str, Any]
Measure = Callable[[Trial], float]
FLOOR, EIGENMESH = "floor", "eigenmesh"


def of_pushes(name: str, kind: str = "pushes") -> Measure:
    """The median over a trial's pushes."""

    def measure(trial: Trial) -> float:
        return float(statistics.median(push[name] or 0.0 for push in trial[kind]))

    return measure


def _connecting(trial: Trial) -> float:
    return float(trial["connect"]["total"])


def _memory(trial: Trial) -> float:
    return float(trial["memory"]["per_stream"])


def _steering(trial: Trial) -> float:
    """Seconds of the event loop: the new snapshot and its publishing."""
    return float(statistics.median(push["change"] + push["send"] for push in trial["pushes"]))


FLEET: dict[str, tuple[Measure, float, int]] = {
    "connect, s": (_connecting, 1.0, 2),
    "idle memory, kB a stream": (_memory, 1e-3, 0),
    "push to ACK p50, ms": (of_pushes("acked_p50"), 1e3, 0),
    "p99": (of_pushes("acked_p99"), 1e3, 0),
    "last": (of_pushes("last_ack"), 1e3, 0),
    "server CPU a push, ms": (of_pushes("cpu"), 1e3, 0),
    "last, a stalled client among them, ms": (of_pushes("last_ack", "stalled_pushes"), 1e3, 0),
}
TABLE: dict[str, tuple[Measure, float, int]] = {
    "push to last ACK, ms": (of_pushes("last_ack"), 1e3, 1),
    "server CPU a push, ms": (of_pushes("cpu"), 1e3, 1),
}


class Results:
    """Trials by case and server."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._trials: list[Trial] = document["trials"]
        self.cases = list(dict.fromkeys(t["case"]["name"] for t in self._trials))

    def is_fleet(self, case: str) -> bool:
        return "stalled_pushes" in self.of(case)[0]

    def of(self, case: str, server: str | None = None) -> list[Trial]:
        return [
            t for t in self._trials if t["case"]["name"] == case and server in (None, t["server"])
        ]

    def median(self, case: str, server: str, measure: Measure) -> float | None:
        found = [measure(t) for t in self.of(case, server)]
        return statistics.median(found) if found else None

    def cell(self, case: str, measure: Measure, scale: float, digits: int) -> str:
        floor = self.median(case, FLOOR, measure)
        ours = self.median(case, EIGENMESH, measure)
        shown = [f"{scale * v:.{digits}f}" if v is not None else "-" for v in (floor, ours)]
        ratio = f" (**{ours / floor:.2f}**)" if ours is not None and floor else ""
        return f"{shown[0]} / {shown[1]}{ratio}"


def markdown(document: Mapping[str, Any]) -> str:
    results = Results(document)
    machine = document["machine"]
    loads = [t["load_average"] for t in document["trials"]]
    lines = [
        f"Medians of {document['repetitions']} repetitions, floor / Eigenmesh (**ratio**); "
        f"{machine['cores']} cores shared by server and clients, Python {machine['python']}, "
        f"grpcio {machine['grpcio']}, load average {min(loads):.1f}–{max(loads):.1f}.",
        "",
        "One weight changes. ACKs are counted from before the change is translated.",
        "",
    ]
    fleets = [case for case in results.cases if results.is_fleet(case)]
    tables = [case for case in results.cases if not results.is_fleet(case)]
    if fleets:
        lines += ["| | " + " | ".join(FLEET) + " |", "|---" * (len(FLEET) + 1) + "|"]
        for case in fleets:
            cells = [results.cell(case, *column) for column in FLEET.values()]
            lines.append(f"| {case} | {' | '.join(cells)} |")
        lines.append("")
    if tables:
        lines += _growth(results, tables)
    lines += [f"{len(document['failures'])} trials failed."]
    lines += [f"- {failure.splitlines()[0]}" for failure in document["failures"]]
    return "\n".join(lines) + "\n"


def _growth(results: Results, cases: list[str]) -> list[str]:
    streams = results.of(cases[0])[0]["case"]["streams"]
    own = ("parsing the document, s", "table, kB", "new snapshot, ms", "publish, ms")
    head = [*own, *TABLE]
    lines = [
        f"Growing tables, {streams} streams. The first four columns are Eigenmesh's alone.",
        "",
        "| | " + " | ".join(head) + " |",
        "|---" * (len(head) + 1) + "|",
    ]

    def ours(case: str, measure: Measure, scale: float, digits: int) -> str:
        value = results.median(case, EIGENMESH, measure)
        return "-" if value is None else f"{scale * value:.{digits}f}"

    for case in cases:
        cells = [
            ours(case, lambda t: float(t["ready"]["parsing"]), 1.0, 2),
            ours(case, of_pushes("bytes"), 1e-3, 1),
            ours(case, of_pushes("change"), 1e3, 2),
            ours(case, of_pushes("send"), 1e3, 2),
            *(results.cell(case, *column) for column in TABLE.values()),
        ]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return [*lines, ""]


def plot(document: Mapping[str, Any]) -> str:
    """Growth with the fleet, and with the table; both axes logarithmic."""
    results = Results(document)

    def series(label: str, suffix: str, server: str, measure: Measure, dashed: bool) -> Series:
        points = []
        for case in results.cases:
            number, _, what = case.partition(" ")
            value = results.median(case, server, measure)
            if what == suffix and value:
                points.append((float(number), 1e3 * value))
        return Series(label, tuple(points), dashed)

    last = of_pushes("last_ack")
    cpu = of_pushes("cpu")
    fleet = [
        series("last ACK, floor", "streams", FLOOR, last, True),
        series("last ACK, Eigenmesh", "streams", EIGENMESH, last, False),
        series("CPU, floor", "streams", FLOOR, cpu, True),
        series("CPU, Eigenmesh", "streams", EIGENMESH, cpu, False),
    ]
    table = [
        series("event loop, routes", "routes", EIGENMESH, _steering, False),
        series("event loop, weighted clusters", "weighted clusters", EIGENMESH, _steering, False),
        series("last ACK, routes", "routes", EIGENMESH, last, True),
        series("last ACK, weighted clusters", "weighted clusters", EIGENMESH, last, True),
    ]
    return figure(
        [
            Panel("One changed weight, by fleet", "streams", "ms", tuple(fleet)),
            Panel("One changed weight, by table", "routes or clusters", "ms", tuple(table)),
        ]
    )
