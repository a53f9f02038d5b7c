"""A cluster that is new, and one whose capacity is doubled or halved under steady load."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.estimator.predict import SECONDS, brief, error
from eigenmesh.mesh import Observation
from eigenmesh.telemetry.estimator import Estimator, Tuning
from eigenmesh.telemetry.transient import Candidates
from eigenmesh.telemetry.window import Window, log_likelihood
from tests.telemetry.referee import Scene, World
from tests.telemetry.simulation import Server

SMALL, LARGE = Server(4, 0.02), Server(8, 0.02)
LOAD = 150.0
"""Requests/s: 75% of the small one's capacity, 38% of the large one's."""

BEFORE, AFTER = 25, 15
CHECKED = (1, 2, 3, 5, 10, 15)
"""Windows after which the errors are taken."""


@dataclass(frozen=True)
class Event:
    """From `before` (None: cold start) to `after`. seconds: of a window. within: the part of the
    first window that is still the old upstream's."""

    before: Server | None
    after: Server
    seconds: float = SECONDS
    within: float = 0.0


def follow(event: Event, seed: int) -> dict[str, Any]:
    """Errors at LOAD of the latency and capacity by the number of windows since the change, and
    after how many it was noticed (None: it was not), and would have been by one who knows both
    curves and waits for the same evidence."""
    before, after, seconds = event.before, event.after, event.seconds
    world, estimator = World(Scene("event", before or after), seed), Estimator()
    world.window(LOAD, 20.0)
    if before is not None:
        for _ in range(BEFORE):
            estimator.update(world.window(LOAD, seconds))
    began = world.time
    change = (began + event.within * seconds, after)
    errors: dict[str, float] = {}
    capacity: dict[str, list[float | None]] = {}
    noticed: int | None = None
    known: int | None = None
    evidence = 0.0
    for window in range(1, AFTER + 1):
        seen = world.window(LOAD, seconds, change if window == 1 else None)
        estimate = estimator.update(seen)["q"]
        if estimate.changed_at is not None and estimate.changed_at > began and noticed is None:
            noticed = window
        if before is not None:
            evidence = max(0.0, evidence + _ratio(before, after, seen))
            known = window if known is None and evidence > Tuning().threshold else known
        if window in CHECKED:
            errors[str(window)] = error(estimate.curve.latency(LOAD), after.latency(LOAD))
            off = abs(math.log(estimate.curve.capacity / after.capacity))
            capacity[str(window)] = [brief(off), brief(estimate.capacity_error)]
    return {"errors": errors, "capacity": capacity, "noticed": noticed, "known": known}


def _ratio(before: Server, after: Server, observation: Observation) -> float:
    """Log probability ratio of a window under the two true curves."""
    q = observation.clusters["q"]
    window = Window(observation.window, q.load, q.throughput, q.mean, q.in_flight)
    both = Candidates(
        np.array([before.service, after.service]), np.array([before.capacity, after.capacity])
    )
    old, new = log_likelihood(both, window)
    return float(new - old)


EVENTS: Mapping[str, Event] = {
    "cold start, 75% load": Event(None, SMALL),
    "capacity halved, to 75% load": Event(LARGE, SMALL),
    "capacity doubled, from 75% load": Event(SMALL, LARGE),
    "halved, windows of 10 s, in the middle of one": Event(LARGE, SMALL, 10.0, 0.5),
    "doubled, windows of 10 s, in the middle of one": Event(SMALL, LARGE, 10.0, 0.5),
}


def figures(seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Event -> what followed, by seed."""
    return {name: [follow(event, seed) for seed in range(seeds)] for name, event in EVENTS.items()}


def markdown(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    lines = [
        f"Median error of the latency at the load observed, by windows of {SECONDS:g} s since; and "
        "of windows until the change is noticed, by the estimator and by one who knows both curves "
        "and waits for the same evidence:",
        "",
        "| event | " + " | ".join(map(str, CHECKED)) + " | noticed after | who knows |",
        "|---" * (len(CHECKED) + 3) + "|",
    ]
    for name, seeds in found.items():
        cells = [f"{np.median([s['errors'][str(w)] for s in seeds]):.0%}" for w in CHECKED]
        late = [_late(s["noticed"] for s in seeds), _late(s["known"] for s in seeds)]
        if "cold" in name:
            late = ["-", "-"]
        lines.append(f"| {name} | {' | '.join([*cells, *late])} |")
    return "\n".join([*lines, ""])


def _late(windows: Iterable[int | None]) -> str:
    """Median, and how often at all."""
    delays = [math.inf if w is None else w for w in windows]
    return f"{np.median(delays):g}, {sum(map(math.isfinite, delays))} of {len(delays)}"
