"""What a run of the demo came to, and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from eigenmesh.demo import phases, stage
from eigenmesh.demo.loadgen import LoadGenerator, Table
from eigenmesh.demo.messages import to_dict
from eigenmesh.demo.phases import Timing
from eigenmesh.demo.results import (
    WINDOW,
    Bin,
    Check,
    Stats,
    recovery,
    summarise,
    timeline,
    verdict,
)
from eigenmesh.demo.scene import Scene

RECOVERED = "degraded, settled"
"""The last part of the degraded phase, as a row of its own."""

BUSY = 0.002
"""Seconds by which the load may be late on average; a quiet machine stays below 1 ms."""

ROWS = {
    phases.INCUMBENT: "before: equal weights",
    phases.STEADY: "with Eigenmesh",
    phases.LEAST_REQUEST: "Envoy's LEAST_REQUEST",
    phases.ORACLE: "oracle: best fixed weights",
    phases.DEGRADED: "degraded: with Eigenmesh, from the first second",
    RECOVERED: "degraded: with Eigenmesh, last seconds",
    phases.ORACLE_DEGRADED: "degraded: oracle",
}
"""Phase -> what its row in the tables is called, in their order."""


@dataclass(frozen=True)
class Outcome:
    """stats: by phase, and RECOVERED. recovery: seconds, None if the mean did not come back to
    within 25% of `recovery_target` (seconds). wins: part of the plan -> solver or
    messages.TIE -> in how many contests it scored better.
    began: phase -> unix seconds."""

    folder: Path
    stats: Mapping[str, Stats]
    recovery: float | None
    recovery_target: float
    checks: tuple[Check, ...]
    wins: Mapping[str, Mapping[str, int]]
    scene: Scene
    tables: Mapping[str, Table]
    began: Mapping[str, float]
    timeline: Sequence[Bin]
    prometheus: bool

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def busy(self) -> str | None:
        """A warning when the machine was too busy for the figures to mean much."""
        worst = max(self.stats, key=lambda name: self.stats[name].late)
        late = self.stats[worst].late
        if late < BUSY:
            return None
        return (
            f"The machine was busy: in the phase {worst} the load was sent {late * 1e3:.1f} ms "
            "late on average. Do not trust the figures; run it again on a quiet machine."
        )


def conclude(
    *,
    folder: Path,
    timing: Timing,
    load: LoadGenerator,
    scene: Scene,
    counters: Mapping[str, int],
    began: Mapping[str, float],
    prometheus: bool,
) -> Outcome:
    """counters: Envoy's counters of harm, as they grew while Eigenmesh pushed."""
    script = phases.script(timing)
    tables = {p.name: load.table(p.name, 0.0, p.seconds) for p in script}
    stats = {
        p.name: summarise(
            tables[p.name], p.seconds, stage.SLO, lateness(load, began[p.name], p.seconds)
        )
        for p in script
    }
    tail = timing.degraded * 0.4
    last = load.table(phases.DEGRADED, timing.degraded - tail, timing.degraded)
    stats[RECOVERED] = summarise(last, tail, stage.SLO)
    # The model knows the queues alone; what Envoy and the client add, the healthy oracle tells.
    overhead = max(0.0, stats[phases.ORACLE].mean - stage.oracle().mean)
    target = stage.oracle(degraded=True).mean + overhead
    window = min(WINDOW, timing.degraded / 5)
    wins: dict[str, dict[str, int]] = {}
    for (part, solver), count in scene.wins.items():
        wins.setdefault(part, {})[solver] = count
    failures = sum(stats[name].failed for name in phases.STEERED_PHASES)
    return Outcome(
        folder=folder,
        stats=stats,
        recovery=recovery(tables[phases.DEGRADED], target, timing.degraded, window),
        recovery_target=target,
        checks=verdict(stats, scene.pushes, failures, counters),
        wins=wins,
        scene=scene,
        tables=tables,
        began=began,
        timeline=timeline(load.records),
        prometheus=prometheus,
    )


def lateness(load: LoadGenerator, began: float, seconds: float) -> float:
    """Mean seconds by which the load was sent too late in this stretch."""
    delays = [late for at, late in load.lateness if began <= at < began + seconds]
    return sum(delays) / len(delays) if delays else 0.0


def save(outcome: Outcome) -> None:
    """requests.npz: every request. decisions.jsonl: every decision. summary.json: the figures."""
    columns = {
        f"{name}/{column}": getattr(table, column)
        for name, table in outcome.tables.items()
        for column in ("route", "offset", "latency", "status", "overloaded")
    }
    np.savez_compressed(outcome.folder / "requests.npz", allow_pickle=False, **columns)
    with (outcome.folder / "decisions.jsonl").open("w") as file:
        for decision in outcome.scene.decisions:
            file.write(json.dumps(to_dict(decision)) + "\n")
    text = json.dumps(summary(outcome), indent=2)
    (outcome.folder / "summary.json").write_text(text + "\n")


def summary(outcome: Outcome) -> dict[str, object]:
    """Seconds, requests/s and fractions, as JSON has them."""
    return {
        "ok": outcome.ok,
        "telemetry": "prometheus" if outcome.prometheus else "envoy",
        "demand": stage.DEMAND,
        "slo": stage.SLO,
        "phases": {name: stats.to_dict() for name, stats in outcome.stats.items()},
        "began": dict(outcome.began),
        "recovery_seconds": outcome.recovery,
        "recovery_target": outcome.recovery_target,
        "pushes": outcome.scene.pushes,
        "wins": {part: dict(solvers) for part, solvers in outcome.wins.items()},
        "checks": [asdict(check) for check in outcome.checks],
    }
