"""Plans that know what clusters do to each other, and plans that do not, on simulated machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from eigenmesh.mesh import Call, Cluster, Host, LatencyCurve, Plan, Route, Topology
from eigenmesh.optimize.portfolio import solve
from eigenmesh.optimize.problem import Problem, Solution
from tests.telemetry.machines import Machines, Run, Service


def decide(
    topology: Topology, machines: Machines, demands: Mapping[str, float]
) -> tuple[Solution, Machines]:
    """The plan for clusters whose curves are known as they are alone, and the machines under it."""
    curves = {}
    for name, service in machines.clusters.items():
        [(machine, seconds)] = service.work
        curves[name] = LatencyCurve(seconds, machines.cores[machine] / seconds)
    problem = Problem(topology, demands, curves, Plan.equal(topology), solver="classical")
    solution = solve(problem)
    return solution, replace(machines, weights=solution.plan.weights)


def latencies(machines: Machines, demands: Mapping[str, float]) -> dict[str, float]:
    """Seconds by cluster, simulated."""
    run = Run(machines, 1)
    run.window(demands, 10.0)
    seen = run.window(demands, 120.0).clusters
    return {name: one.mean for name, one in seen.items() if one.mean is not None}


def test_two_routes_do_not_both_take_the_machine_that_they_share() -> None:
    """It is the faster one for either route, and large enough for one of them."""
    service = {"a": ("box", 0.02), "b": ("box", 0.02), "c": ("left", 0.03), "d": ("right", 0.03)}
    routes = {"one": ("a", "c"), "two": ("b", "d")}
    machines = Machines(
        {"box": 4, "left": 3, "right": 3},
        {name: Service((work,)) for name, work in service.items()},
        {},
    )
    demands = {"one": 100.0, "two": 100.0}

    def plan(coupling: float) -> tuple[Solution, dict[str, float]]:
        topology = Topology(
            tuple(Cluster(name, work[0]) for name, work in service.items()),
            tuple(Route(name, clusters) for name, clusters in routes.items()),
            (Host("box", coupling),),
        )
        solution, planned = decide(topology, machines, demands)
        seen = latencies(planned, demands)
        return solution, {
            route: sum(weight * seen[name] for name, weight in split.items())
            for route, split in solution.plan.weights.items()
        }

    _, each_for_itself = plan(0.0)
    together, coupled = plan(1.0)
    for route in routes:
        assert coupled[route] < 0.6 * each_for_itself[route]
        assert coupled[route] == pytest.approx(together.predicted_latency, rel=0.1)


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

    def mean(*calls: Call) -> tuple[Solution, float]:
        topology = Topology(
            (Cluster("calls", calls=calls), Cluster("alone"), Cluster("stock")),
            (Route("shop", ("calls", "alone")), Route("stock", ("stock",))),
        )
        called = 2.0 * 0.5 * demands["shop"]  # as the equal weights in force have it
        solution, planned = decide(topology, machines, {**demands, "stock": called})
        seen = latencies(planned, demands)
        split = solution.plan.weights["shop"]
        return solution, sum(weight * seen[name] for name, weight in split.items())

    _, by_own_time = mean()
    whole, by_all = mean(Call("stock", 2.0))
    assert by_all < 0.85 * by_own_time
    assert by_all == pytest.approx(whole.predicted_latency, rel=0.1)
