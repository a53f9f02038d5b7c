"""Weights by Born machines against the exact optimum and classical solvers.

    python -m bench.optimiser.continuous [--instances 100] [--large 30] [--quick]

One route of 4 to 1,024 clusters, and eight routes of four clusters each out of twelve, so that they
share them. Capacities differ by a factor of eight, service times by four; demand is 30 to 65% of
the capacity, planned for with bursts of 1.3. Every instance is solved twice by each solver in turn:

cold  from the better of equal weights and of capacity-proportional ones;
warm  from the optimum of the tick before: since then demands changed by 5% and capacities by 3%
      (standard deviations).

The optimum is the best of three methods run to convergence: Newton's steps, SLSQP (up to
SLSQP_LIMIT weights), and a projected gradient that shares nothing with the solvers but J; `doubt`
bounds what they could all have missed, if J is convex. Into bench/results/
optimiser_continuous.{json,md}. About ten minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.optimiser.referee import doubt, projected_gradient
from eigenmesh.mesh import Bounds, Cluster, GuardPolicy, LatencyCurve, Plan, Route, Topology
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Weights
from eigenmesh.optimize.circuits.weights import born_machine
from eigenmesh.optimize.classical.weights import SLSQP_LIMIT, newton, slsqp
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings, Problem
from eigenmesh.optimize.starts import is_crowded, starts

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (4, 7, 8, 16, 33, 64, 128, 256, 512, 1000, 1024)
LARGE = 1000
SETTINGS = CircuitSettings(seconds=30.0)
FREE = GuardPolicy(Bounds(0.0, 1.0), probe_floor=0.0)

Solver = Callable[[Objective, Array, Array], Weights]


def one_route(clusters: int, rng: np.random.Generator) -> Problem:
    names = tuple(f"c{k}" for k in range(clusters))
    return _problem((Route("r", names),), names, rng)


def shared(rng: np.random.Generator, routes: int = 8, each: int = 4) -> Problem:
    names = tuple(f"c{k}" for k in range(routes * each * 3 // 8))
    found = [
        Route(f"r{r}", tuple(names[k] for k in sorted(rng.choice(len(names), each, False))))
        for r in range(routes)
    ]
    return _problem(tuple(found), names, rng)


def _problem(
    routes: tuple[Route, ...], names: tuple[str, ...], rng: np.random.Generator
) -> Problem:
    topology = Topology(tuple(map(Cluster, names)), routes)
    capacity = dict(zip(names, 100.0 * 2.0 ** rng.uniform(0.0, 3.0, len(names)), strict=True))
    uses = {name: sum(name in route.clusters for route in routes) for name in names}
    load = rng.uniform(0.3, 0.65)
    return Problem(
        topology,
        {r.name: load * sum(capacity[k] / uses[k] for k in r.clusters) for r in routes},
        {k: LatencyCurve(float(rng.uniform(0.01, 0.04)), float(c)) for k, c in capacity.items()},
        Plan.equal(topology),
        guard=FREE,
    )


def next_tick(problem: Problem, plan: Plan, rng: np.random.Generator) -> Problem:
    return replace(
        problem,
        incumbent=plan,
        demands={k: d * (1.0 + 0.05 * rng.normal()) for k, d in problem.demands.items()},
        curves={
            k: replace(c, capacity=c.capacity * (1.0 + 0.03 * rng.normal()))
            for k, c in problem.curves.items()
        },
    )


def circuit(objective: Objective, limits: Array, start: Array) -> Weights:
    return born_machine(objective, limits, start, SETTINGS)


def optimum(objective: Objective, limits: Array, start: Array) -> tuple[Array, float]:
    found = [newton(objective, limits, start, within=1e-12).value]
    found.append(projected_gradient(objective, limits, start, steps=2000).value)
    if start.size <= SLSQP_LIMIT:
        found.append(slsqp(objective, limits, start).value)
    values = objective.evaluate(np.stack(found), limits)
    return found[int(values.argmin())], float(values.min())


def run(
    case: str, make: Callable[[np.random.Generator], Problem], count: int
) -> Iterator[dict[str, Any]]:
    number = 0
    for seed in range(10 * count):
        rng = np.random.default_rng([seed, sum(map(ord, case))])
        problem = make(rng)
        objective = Objective(problem)
        limits = objective.ladder[:, -1]
        start = starts(objective, objective.project(objective.initial), limits, 1)[0]
        best, value = optimum(objective, limits, start)
        later = Objective(next_tick(problem, objective.plan(best, limits), rng))
        if is_crowded(objective) or is_crowded(later):
            continue  # more than one valley: no optimum that could be called exact
        ticks = {
            "cold": (objective, start, best, value),
            "warm": (later, w := later.project(later.initial), *optimum(later, limits, w)),
        }
        for tick, (at, begin, w, value) in ticks.items():
            solvers: dict[str, Solver] = {"born-machine": circuit, "newton": newton}
            if begin.size <= SLSQP_LIMIT:
                solvers["slsqp"] = slsqp
            solvers["projected-gradient"] = projected_gradient
            doubtful = doubt(at, limits, w)
            for solver, solve in solvers.items():
                began = time.process_time()
                answer = solve(at, limits, begin)
                seconds = time.process_time() - began
                gap = float(at.evaluate(answer.value, limits)) / value - 1.0
                yield {
                    "case": case,
                    "number": number,
                    "tick": tick,
                    "solver": solver,
                    "gap": gap,
                    "ms": 1e3 * seconds,
                    "evaluations": answer.detail["evaluations"],
                    "doubt": doubtful,
                }
        number += 1
        if number == count:
            return


def million() -> float:
    """Seconds to price a million candidate plans of two routes over five clusters."""
    rng = np.random.default_rng(0)
    names = tuple("abcde")
    objective = Objective(_problem((Route("r", names), Route("s", names)), names, rng))
    w = rng.exponential(size=(1_000_000, objective.initial.size))
    w /= objective.by_route.spread(objective.by_route.sum(w))
    rungs = rng.integers(0, objective.levels, (len(w), len(names)))
    limits = objective.limits_at(rungs)
    began = time.process_time()
    objective.evaluate(w, limits)
    return time.process_time() - began


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        "| case | tick | solver | instances | median gap | worst gap "
        "| ms, median | ms, p95 | evaluations |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for r in records:
        groups.setdefault((r["case"], r["tick"], r["solver"]), []).append(r)
    for (case, tick, solver), rows in groups.items():
        gaps, ms = (np.array([r[key] for r in rows]) for key in ("gap", "ms"))
        spent = np.median([r["evaluations"] for r in rows])
        lines.append(
            f"| {case} | {tick} | {solver} | {len(rows)} "
            f"| {np.median(gaps):.4%} | {gaps.max():.4%} "
            f"| {np.median(ms):.1f} | {np.quantile(ms, 0.95):.1f} | {spent:.0f} |"
        )
    return "\n".join(lines)


def report(records: list[dict[str, Any]], priced: float) -> str:
    doubts = np.array([r["doubt"] for r in records])
    return "\n\n".join(
        (
            "# Weights by Born machines",
            "Simulated circuits on lightning.qubit, one thread, processor time; every solver in "
            "turn on the same instance. Gaps are to the best that any method reached at "
            "convergence, which duality bounds within "
            f"{np.quantile(doubts, 0.95):.4%} of the optimum in 95% of the instances "
            f"({doubts.max():.3%} at worst). Written by `make bench-optimiser-continuous`; every "
            "solve is in optimiser_continuous.json.",
            "To price a million candidate plans of two routes over five clusters takes "
            f"{priced:.1f} s.",
            table(records),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark of the weight circuits.")
    parser.add_argument("--instances", type=int, default=100, help="of every case")
    parser.add_argument("--large", type=int, default=30, help=f"of cases from {LARGE} clusters on")
    parser.add_argument("--quick", action="store_true", help="two instances, up to 64 clusters")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    args = parser.parse_args()
    cases: dict[str, tuple[Callable[[np.random.Generator], Problem], int]] = {
        "8 routes x 4": (shared, args.instances)
    }
    for size in SIZES:
        count = args.large if size >= LARGE else args.instances
        cases[f"{size}"] = (lambda rng, size=size: one_route(size, rng), count)  # type: ignore[misc]
    records: list[dict[str, Any]] = []
    for case, (make, count) in cases.items():
        if args.quick and case.isdigit() and int(case) > 64:
            continue
        records += run(case, make, 2 if args.quick else count)
        print(table([r for r in records if r["case"] == case]).split("\n", 2)[2], flush=True)
    args.results.mkdir(parents=True, exist_ok=True)
    priced = million()
    document = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "million_plans_s": priced,
    }
    rows = ",\n".join(json.dumps(r) for r in records)
    text = json.dumps(document)[:-1] + f', "solves": [\n{rows}\n]}}\n'
    (args.results / "optimiser_continuous.json").write_text(text)
    (args.results / "optimiser_continuous.md").write_text(report(records, priced) + "\n")


if __name__ == "__main__":
    main()
