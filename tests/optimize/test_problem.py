from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from eigenmesh.mesh import (
    Bounds,
    Cluster,
    GuardPolicy,
    LatencyCurve,
    MeshError,
    ObjectivePolicy,
    Plan,
    Route,
    Scenario,
    Topology,
)
from eigenmesh.optimize import CircuitSettings, Problem, Solution

Make = Callable[..., Problem]


def test_problem_and_solution_survive_pickling(make_demo: Make) -> None:
    problem = make_demo(seed=3, solver="classical")
    problem = replace(problem, demands=MappingProxyType(dict(problem.demands)))
    assert pickle.loads(pickle.dumps(problem)) == problem
    solution = Solution(problem.incumbent, 0.1, 0.2, 0.03)
    assert pickle.loads(pickle.dumps(solution)) == solution


@pytest.mark.parametrize(
    ("change", "field", "remedy"),
    [
        ({"demands": {"a": 1.0}}, "demands.b", "leave the route out"),
        ({"demands": {"a": 1.0, "b": float("nan")}}, "demands.b", "finite rate"),
        ({"demands": {"a": 1.0, "b": -1.0}}, "demands.b", "finite rate"),
        ({"demands": {"a": 0.0, "b": 0.0}}, "demands", "nothing to decide"),
        ({"demands": {"a": 1.0, "b": 1.0, "c": 1.0}}, "demands.c", "a route of the topology"),
        ({"curves": {}}, "curves.large", "out of the topology"),
        ({"solver": "quantum"}, "solver", "best, variational, classical"),
        ({"seed": -1}, "seed", "0 or more"),
        ({"incumbent": Plan({}, {})}, "incumbent.weights.a", "weights in force"),
        (
            {"incumbent": Plan({"a": {"other": 1.0}, "b": {"large": 1.0}}, {})},
            "incumbent.weights.a",
            "scale the others",
        ),
        ({"guard": GuardPolicy(Bounds(0.4, 0.9))}, "bounds.a", "lower min_weight"),
        ({"guard": GuardPolicy(Bounds(0.0, 0.3))}, "bounds.a", "raise max_weight"),
        ({"guard": GuardPolicy(min_limit=9, max_limit=8)}, "guard.min_limit", "max_limit"),
        ({"objective": ObjectivePolicy(slo=float("nan"))}, "objective.slo", "above 0"),
        ({"objective": ObjectivePolicy(error_price=-1.0)}, "objective.error_price", "0 or more"),
        ({"objective": ObjectivePolicy(spill=1.5)}, "objective.spill", "from 0 to 1"),
        ({"objective": ObjectivePolicy(knee=1.0)}, "objective.knee", "between 0 and 1"),
        (
            {"objective": ObjectivePolicy(scenarios=(Scenario(float("nan"), 1.0),))},
            "objective.scenarios[0]",
            "finite",
        ),
    ],
)
def test_what_no_solver_could_answer(
    make_demo: Make, change: dict[str, Any], field: str, remedy: str
) -> None:
    with pytest.raises(MeshError, match=remedy) as caught:
        replace(make_demo(), **change)
    assert caught.value.field == field


def test_topology_without_routes() -> None:
    with pytest.raises(MeshError, match="at least one route"):
        Problem(Topology((Cluster("a"),), ()), {}, {}, Plan({}, {}))


def test_the_only_cluster_of_a_route_needs_no_room() -> None:
    topology = Topology((Cluster("a"),), (Route("r", ("a",)),))
    curves = {"a": LatencyCurve(0.01, 100.0)}
    problem = Problem(topology, {"r": 10.0}, curves, Plan.equal(topology))
    assert problem.bounds_of("r", "a") == Bounds(1.0, 1.0)


def test_circuit_settings_are_positive() -> None:
    for name in ("max_qubits", "shots", "layers"):
        change: dict[str, Any] = {name: 0}
        with pytest.raises(MeshError, match=f"circuits.{name}"):
            replace(CircuitSettings(), **change)
