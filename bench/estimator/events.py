"""A cluster that is new, and one whose capacity is doubled or halved under steady load."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.estimator.predict import SECONDS, error
from eigenmesh.telemetry.estimator import Estimator
from tests.telemetry.referee import Scene, World
from tests.telemetry.simulation import Server

SMALL, LARGE = Server(4, 0.02), Server(8, 0.02)
LOAD = 150.0
"""Requests/s: 75% of the small one's capacity, 38% of the large one's."""

BEFORE, AFTER = 25, 15
CHECKED = (1, 2, 3, 5, 10, 15)
"""Windows after which the errors are taken."""


def follow(before: Server | None, after: Server, seed: int) -> dict[str, Any]:
    """Errors of the latency at LOAD by the number of windows since the change (None: cold start),
    and after how many of them the change was noticed (None: it was not)."""
    scene = Scene("event", before or after)
    world, estimator = World(scene, seed), Estimator()
    world.window(LOAD, 20.0)
    if before is not None:
        for _ in range(BEFORE):
            estimator.update(world.window(LOAD, SECONDS))
        world.become(after)
    began = world.time
    errors: dict[str, float] = {}
    noticed: int | None = None
    for window in range(1, AFTER + 1):
        estimate = estimator.update(world.window(LOAD, SECONDS))["q"]
        if estimate.changed_at is not None and estimate.changed_at > began and noticed is None:
            noticed = window
        if window in CHECKED:
            errors[str(window)] = error(estimate.curve.latency(LOAD), after.latency(LOAD))
    return {"errors": errors, "noticed": noticed}


EVENTS: Mapping[str, tuple[Server | None, Server]] = {
    "cold start, 75% load": (None, SMALL),
    "capacity halved, to 75% load": (LARGE, SMALL),
    "capacity doubled, from 75% load": (SMALL, LARGE),
}


def figures(seeds: int) -> dict[str, list[dict[str, Any]]]:
    """Event -> what followed, by seed."""
    return {name: [follow(*event, seed) for seed in range(seeds)] for name, event in EVENTS.items()}


def markdown(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    lines = [
        f"Median error of the latency at the load observed, by windows of {SECONDS:g} s since:",
        "",
        "| event | " + " | ".join(map(str, CHECKED)) + " | noticed after (median, in time) |",
        "|---" * (len(CHECKED) + 2) + "|",
    ]
    for name, seeds in found.items():
        cells = [f"{np.median([s['errors'][str(w)] for s in seeds]):.0%}" for w in CHECKED]
        delays = [math.inf if s["noticed"] is None else s["noticed"] for s in seeds]
        noticed = sum(map(math.isfinite, delays))
        late = f"{np.median(delays):g}, {noticed} of {len(seeds)}"
        lines.append(f"| {name} | {' | '.join(cells)} | {'-' if 'cold' in name else late} |")
    return "\n".join([*lines, ""])
