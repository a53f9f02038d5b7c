"""Learning capacities that steady load does not show, with probes of the guard and without.

Three clusters of 8, 4 and 2 slots of 20 ms share one route at 60% of their capacity, weights in
proportion: eight slots hardly wait then. Observed for `WINDOWS` windows; the guard's `Prober` may
raise a weight, judged by the latency that the learned curves predict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from eigenmesh.guard import Prober
from eigenmesh.mesh import (
    Cluster,
    CurveEstimate,
    GuardPolicy,
    Plan,
    ProbePolicy,
    Route,
    Topology,
)
from eigenmesh.telemetry.estimator import Estimator
from tests.telemetry.simulation import REFERENCE, Mesh, true_mean

WINDOWS, SECONDS, UTILISATION = 100, 2.0, 0.6
POLICIES: Mapping[str, GuardPolicy] = {
    "none": GuardPolicy(),
    "+25%, max_step 0.1, 40% of the time": GuardPolicy(probe=ProbePolicy(rise=0.25)),
    "+25%, max_step 0.2, 10% of the time": GuardPolicy(
        max_step=0.2, probe=ProbePolicy(rise=0.25, share=0.1)
    ),
    "+25%, max_step 0.2, 20% of the time": GuardPolicy(
        max_step=0.2, probe=ProbePolicy(rise=0.25, share=0.2)
    ),
    "+25%, max_step 0.2, 40% of the time": GuardPolicy(max_step=0.2, probe=ProbePolicy(rise=0.25)),
}
TOPOLOGY = Topology(tuple(map(Cluster, REFERENCE)), (Route("r", tuple(REFERENCE)),))
CAPACITY = sum(s.capacity for s in REFERENCE.values())
EVEN = Plan({"r": {n: s.capacity / CAPACITY for n, s in REFERENCE.items()}}, {})


def predicted(plan: Plan, curves: Mapping[str, CurveEstimate], demand: float) -> float:
    return sum(w * curves[n].curve.latency(w * demand) for n, w in plan.weights["r"].items())


def trial(policy: str, seed: int) -> dict[str, Any]:
    """By cluster, at the end: the error of the capacity and what the estimator says of it.

    cost: true mean latency (settled) over that of no probes, mean and largest, relative.
    time: share of the time spent on probes.
    """
    demand = UTILISATION * CAPACITY
    mesh, estimator = Mesh(seed, REFERENCE, demand), Estimator()
    prober = Prober(TOPOLOGY, POLICIES[policy])

    def settled(plan: Plan) -> float:
        return true_mean(REFERENCE, list(plan.weights["r"].values()), demand)

    plan, costs, probing = EVEN, [], 0
    mesh.window(list(plan.weights["r"].values()), 20.0)
    for _ in range(WINDOWS):
        curves = estimator.update(mesh.window(list(plan.weights["r"].values()), SECONDS))

        def score(one: Plan, curves: Mapping[str, CurveEstimate] = curves) -> float:
            return predicted(one, curves, demand)

        if prober.end(plan, score, mesh.time) is not None:
            plan = EVEN
        elif prober.current is None and (probe := prober.begin(plan, curves, score, mesh.time)):
            plan = probe.plan
        costs.append(settled(plan) / settled(EVEN) - 1.0)
        probing += plan != EVEN
    return {
        "policy": policy,
        "seed": seed,
        "says": {n: round(curves[n].capacity_error, 4) for n in REFERENCE},
        "off": {
            n: round(abs(math.log(curves[n].curve.capacity / s.capacity)), 4)
            for n, s in REFERENCE.items()
        },
        "cost": [round(float(np.mean(costs)), 5), round(float(np.max(costs)), 5)],
        "time": probing / WINDOWS,
        "changes": sum(curves[n].changed_at is not None for n in REFERENCE),
    }


def trials(seeds: int, jobs: int) -> list[dict[str, Any]]:
    cases = [(policy, seed) for seed in range(seeds) for policy in POLICIES]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(trial, *zip(*cases, strict=True), chunksize=2))


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    seeds = len({t["seed"] for t in found})
    lines = [
        f"Capacities at {UTILISATION:.0%} load after {WINDOWS * SECONDS:.0f} s, median of {seeds} "
        "seeds: what is said of the error, and the error itself (of logarithms), of "
        f"{', '.join(str(s.slots) for s in REFERENCE.values())} slots:",
        "",
        "| probes of 20 s, at most | says | off | time used | latency: mean, worst | changes |",
        "|---" * 6 + "|",
    ]
    for policy in dict.fromkeys(t["policy"] for t in found):
        here = [t for t in found if t["policy"] == policy]
        says, off = (
            ", ".join(f"{np.median([t[what][n] for t in here]):.0%}" for n in REFERENCE)
            for what in ("says", "off")
        )
        time = np.mean([t["time"] for t in here])
        mean = np.mean([t["cost"][0] for t in here])
        worst = max(t["cost"][1] for t in here)
        lines.append(
            f"| {policy} | {says} | {off} | {time:.0%} | {mean:+.1%}, {worst:+.1%} "
            f"| {sum(t['changes'] for t in here)} |"
        )
    return "\n".join([*lines, ""])
