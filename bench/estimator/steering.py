"""Steering by the estimates: the reference mesh (8, 4 and 2 slots of 20 ms, 490 requests/s,
windows of 2 s) from overload at equal weights to the optimum, and through a change.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from eigenmesh.telemetry.estimator import Estimator
from tests.telemetry.simulation import (
    DEGRADED,
    DEMAND,
    REFERENCE,
    Mesh,
    Server,
    Tick,
    closed_loop,
)

Numbers = dict[str, float]


def spread(values: list[float]) -> Numbers:
    return {
        "median": round(float(np.median(values)), 4),
        "p90": round(float(np.quantile(values, 0.9)), 4),
        "max": round(float(np.max(values)), 4),
    }


def error(tick: Tick, cluster: str) -> float:
    truth = tick.servers[cluster].capacity
    return abs(tick.estimates[cluster].curve.capacity / truth - 1.0)


def back_within(ticks: list[Tick], since: float, gap: float) -> float:
    """Seconds after which the gap is below `gap` for the rest of the run."""
    late = [t.time for t in ticks if t.time >= since and t.gap > gap]
    return max(late, default=since) - since


def noticed(ticks: list[Tick], cluster: str, since: float) -> float:
    """Seconds until the change was noticed; infinite if it was not."""
    found = [t.estimates[cluster].changed_at for t in ticks]
    return min((f - since for f in found if f is not None and f > since), default=float("inf"))


def degrade(seeds: int) -> dict[str, Any]:
    """Overload, take-over at 15 s, the best upstream degrades at 50 s."""
    runs = [list(closed_loop(seed)) for seed in range(seeds)]
    steady = [[t.gap for t in run if 27 <= t.time < 50] for run in runs]
    after = [[t.gap for t in run if t.time >= 70] for run in runs]
    errors = {
        f"{at:.0f} s": {
            c: spread([error(next(t for t in run if t.time >= at), c) for run in runs])
            for c in REFERENCE
        }
        for at in (28.0, 48.0, 58.0, 70.0, 98.0)
    }
    false = sum(
        len({t.estimates[c].changed_at for t in run if t.time < 50} - {None})
        for run in runs
        for c in REFERENCE
    )
    return {
        "gap from 12 s after take-over": spread([float(np.median(g)) for g in steady]),
        "largest gap from 12 s after take-over": spread([max(g) for g in steady]),
        "gap from 20 s after degradation": spread([float(np.median(g)) for g in after]),
        "back within 25% (s)": spread([back_within(run, 50.0, 0.25) for run in runs]),
        "noticed after (s)": spread([noticed(run, "a", 50.0) for run in runs]),
        "changes noticed where there was none": false,
        "capacity error": errors,
    }


def recover(seeds: int, variation: float) -> Numbers:
    """The degraded upstream becomes what it was, at 60 s."""
    delays = [
        noticed(
            list(
                closed_loop(
                    seed,
                    start=DEGRADED,
                    change=(60.0, REFERENCE),
                    weights=(0.45, 0.35, 0.2),
                    variation=variation,
                )
            ),
            "a",
            60.0,
        )
        for seed in range(seeds)
    ]
    return spread(delays)


def false_alarms(hours: int) -> dict[str, float]:
    """Per hour of steady traffic on a mesh of three, at fixed weights."""
    settings: dict[str, tuple[dict[str, Server], float, list[float]]] = {
        "70% load": (REFERENCE, DEMAND, [0.62, 0.27, 0.11]),
        "85% load": (DEGRADED, DEMAND, [0.488, 0.349, 0.163]),
        "other sizes": (
            {"a": Server(16, 0.01), "b": Server(3, 0.05), "c": Server(1, 0.02)},
            1355.0,
            [0.945, 0.033, 0.022],
        ),
    }
    out = {}
    for name, (servers, demand, weights) in settings.items():
        alarms = 0
        for hour in range(hours):
            mesh, estimator = Mesh(1000 + hour, servers, demand), Estimator()
            found: set[tuple[str, float]] = set()
            while mesh.time < 3600:
                for cluster, one in estimator.update(mesh.window(weights, 2.0)).items():
                    if one.changed_at is not None:
                        found.add((cluster, one.changed_at))
            alarms += len(found)
        out[name] = alarms / hours
    return out


def figures(seeds: int, hours: int) -> dict[str, Any]:
    """What steering costs over the optimum, errors of the capacities, and changes noticed."""
    return {
        "seeds": seeds,
        "degradation": degrade(seeds),
        "recovery noticed after (s)": {
            "exponential service": recover(max(1, seeds // 2), 1.0),
            "constant service": recover(max(1, seeds // 4), 0.0),
            "service of twice the variance": recover(max(1, seeds // 4), 2.0),
        },
        "false alarms per hour": false_alarms(hours),
    }
