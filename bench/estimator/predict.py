"""Latency predicted for loads that were not observed, against the truth.

A settled queue is observed for `windows` windows at one steady load; then its latency at half,
0.8, 1.2 and 1.5 times that load is predicted (loads of 95% of capacity and more are left out:
nothing is settled there).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from bench.estimator.rules import RULES, Seen
from eigenmesh.telemetry.estimator import Estimator
from tests.telemetry.referee import SCENES, Scene

FACTORS = (0.5, 0.8, 1.0, 1.2, 1.5)
UTILISATIONS = (0.3, 0.45, 0.6, 0.75)
WINDOWS, SECONDS = 40, 2.0
FULLEST = 0.95
OURS = "Eigenmesh"


@dataclass(frozen=True)
class Case:
    scene: Scene
    utilisation: float
    seed: int


def trial(case: Case) -> dict[str, Any]:
    """Raw figures of one seed."""
    scene, load = case.scene, case.utilisation * case.scene.capacity
    estimator, windows = Estimator(), []
    for observation in scene.run(case.seed, load, WINDOWS, SECONDS):
        estimator.update(observation)
        windows.append(observation.clusters["q"])
    estimate = estimator.estimates["q"]
    seen = Seen.of(windows)
    loads = {str(f): f * load for f in FACTORS if f * case.utilisation < FULLEST}
    predicted = {
        name: {f: brief(rule(seen, x)) for f, x in loads.items()} for name, rule in RULES.items()
    }
    p99 = {
        OURS: {f: brief(estimate.quantile(x, 0.99)) for f, x in loads.items()},
        "constant": {f: brief(seen.p99) for f in loads},
        "mean, as many times as seen": {
            f: brief(seen.p99 / seen.mean * estimate.curve.latency(x)) for f, x in loads.items()
        },
    }
    predicted[OURS] = {f: brief(estimate.curve.latency(x)) for f, x in loads.items()}
    return {
        "scene": scene.name,
        "utilisation": case.utilisation,
        "seed": case.seed,
        "truth": {f: brief(scene.mean(x)) for f, x in loads.items()},
        "predicted": predicted,
        "p99_truth": {f: brief(scene.quantile(x, 0.99)) for f, x in loads.items()},
        "p99": p99,
        "t0": brief(estimate.curve.t0),
        "t0_error": brief(estimate.t0_error),
        "t0_truth": scene.server.service,
        "capacity": brief(estimate.curve.capacity),
        "capacity_error": brief(estimate.capacity_error),
        "capacity_truth": scene.capacity,
        "changes": int(estimate.changed_at is not None),
    }


def brief(value: float) -> float | None:
    """Four digits; None, which JSON has, for infinity."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def trials(seeds: int, jobs: int, scenes: Iterable[Scene] = SCENES) -> list[dict[str, Any]]:
    cases = [Case(s, u, seed) for s in scenes for u in UTILISATIONS for seed in range(seeds)]
    if jobs == 1:
        return [trial(case) for case in cases]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(trial, cases, chunksize=8))


def error(predicted: float | None, truth: float) -> float:
    """Relative; None was infinite, and is infinitely wrong."""
    return math.inf if predicted is None else abs(predicted / truth - 1.0)
