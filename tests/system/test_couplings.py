"""Plans that know what clusters do to each other, and plans that do not, on simulated machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from eigenmesh.mesh import (
    Call,
    Cluster,
    LatencyCurve,
    ObjectivePolicy,
    Plan,
    Route,
    Scenario,
    Topology,
)
from eigenmesh.optimize.portfolio import solve
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.telemetry.coupled import CoupledEstimator
from tests.telemetry.machines import Machines, Run, Service

DEMANDS = {"a": 120.0, "b": 130.0}
ROUTES = (Route("a", ("a-box", "a-far")), Route("b", ("b-box", "b-far")))
START = {"a": {"a-box": 0.4, "a-far": 0.6}, "b": {"b-box": 0.7, "b-far": 0.3}}

Weights = Mapping[str, Mapping[str, float]]


def box(weights: Weights) -> Machines:
    """The box serves 200 requests/s of both together, faster than what either has elsewhere."""
    return Machines(
        {"box": 4, "many": 8, "few": 2},
        {
            "a-box": Service((("box", 0.020),)),
            "b-box": Service((("box", 0.020),)),
            "a-far": Service((("many", 0.035),)),
            "b-far": Service((("few", 0.050),)),
        },
        weights,
    )


def topology(host: str | None) -> Topology:
    clusters = (
        Cluster("a-box", host),
        Cluster("a-far"),
        Cluster("b-box", host),
        Cluster("b-far"),
    )
    return Topology(clusters, ROUTES)


def planned(mesh: Topology, curves: Mapping[str, LatencyCurve]) -> Weights:
    names = [r.name for r in mesh.routes]
    problem = Problem(
        mesh,
        {name: DEMANDS[name] for name in names},
        {name: curves[name] for name in mesh.cluster_names},
        Plan({name: START[name] for name in names}, {}),
        ObjectivePolicy(scenarios=(Scenario(1.0, 1.0),)),
        solver="classical",
    )
    return solve(problem).plan.weights


def latencies(weights: Weights) -> dict[str, float]:
    """Route -> mean seconds of what was answered in half a minute after the weights changed."""
    run = Run(box(weights), 8)
    run.window(DEMANDS, 10.0)
    seen = run.window(DEMANDS, 20.0).clusters
    found = {}
    for route, split in weights.items():
        answered = sum(seen[k].throughput for k in split)
        found[route] = sum(seen[k].throughput * (seen[k].mean or 0.0) for k in split) / answered
    return found


def test_routes_that_share_a_host_leave_it_to_the_one_that_needs_it() -> None:
    knowing, apart = CoupledEstimator(topology("box")), CoupledEstimator(topology(None))
    run, rng = Run(box(START), 1), np.random.default_rng(1)
    run.window(DEMANDS, 5.0)
    for window in range(30):
        if window % 3 == 0:
            swings = rng.uniform(0.8, 1.2, 2).tolist()
        demands = dict(zip(DEMANDS, np.multiply(swings, list(DEMANDS.values())), strict=True))
        observation = run.window(demands, 2.0)
        knowing.update(observation, START)
        apart.update(observation, START)
    curves = {name: one.curve for name, one in knowing.estimates.items()}
    together = planned(knowing.topology, curves)

    # Each route by itself takes the fastest machine, and so does the other.
    greedy: dict[str, Mapping[str, float]] = {}
    for route in ROUTES:
        own = tuple(c for c in topology(None).clusters if c.name in route.clusters)
        greedy |= planned(Topology(own, (route,)), curves)
    ours, theirs = latencies(together), latencies(greedy)
    assert all(ours[route] < 0.5 * theirs[route] for route in DEMANDS), (ours, theirs)

    # Curves learned as if the clusters were apart are no cure: they hide whose load it was.
    ignored = latencies(planned(topology(None), {n: e.curve for n, e in apart.estimates.items()}))
    assert all(ours[route] < ignored[route] for route in DEMANDS), (ours, ignored)

    best = min(
        box({"a": {"a-box": x, "a-far": 1 - x}, "b": {"b-box": y, "b-far": 1 - y}}).mean(DEMANDS)
        for x in np.linspace(0.02, 0.98, 25).tolist()
        for y in np.linspace(0.02, 0.98, 25).tolist()
    )
    assert box(together).mean(DEMANDS) < 1.1 * best


def test_a_cluster_is_not_cheaper_than_what_it_calls() -> None:
    machines = Machines(
        {"one": 4, "two": 4, "stock": 2},
        {
            "calls": Service((("one", 0.01),), (("stock", 2.0),)),
            "alone": Service((("two", 0.03),)),
            "stock": Service((("stock", 0.01),)),
        },
        {},
    )
    demands = {"shop": 80.0}

    # Curves are known as the clusters are alone.
    curves = {"calls": (0.01, 400.0), "alone": (0.03, 4 / 0.03), "stock": (0.01, 200.0)}

    def mean(*calls: Call) -> tuple[Solution, float]:
        mesh = Topology(
            (Cluster("calls", calls=calls), Cluster("alone"), Cluster("stock")),
            (Route("shop", ("calls", "alone")), Route("stock", ("stock",))),
        )
        called = 2.0 * 0.5 * demands["shop"]  # as the equal weights in force have it
        problem = Problem(
            mesh,
            {**demands, "stock": called},
            {name: LatencyCurve(*curve) for name, curve in curves.items()},
            Plan.equal(mesh),
            solver="classical",
        )
        solution = solve(problem)
        run = Run(replace(machines, weights=solution.plan.weights), 1)
        run.window(demands, 10.0)
        seen = run.window(demands, 60.0).clusters
        split = solution.plan.weights["shop"]
        return solution, sum(weight * (seen[name].mean or 0.0) for name, weight in split.items())

    _, by_own_time = mean()
    whole, by_all = mean(Call("stock", 2.0))
    assert by_all < 0.85 * by_own_time
    assert by_all == pytest.approx(whole.predicted_latency, rel=0.1)
