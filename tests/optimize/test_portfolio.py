from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenmesh.mesh import BreakerLimits, Cluster, GuardPolicy, LatencyCurve, Plan, Route, Topology
from eigenmesh.mesh.policy import Bounds, ObjectivePolicy
from eigenmesh.optimize.classical.weights import slsqp
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.portfolio import solve
from eigenmesh.optimize.problem import CircuitSettings, Problem, Solution
from eigenmesh.optimize.starts import SEVERAL, is_crowded, starts

from .couplings import calling, coupled

Make = Callable[..., Problem]


def check(problem: Problem, solution: Solution) -> None:
    """What holds of every solution."""
    objective = Objective(problem)
    assert solution.objective == pytest.approx(objective.of_plan(solution.plan), rel=1e-9)
    assert solution.incumbent_objective == objective.of_plan(problem.incumbent)
    for route in problem.topology.routes:
        for cluster in route.clusters:
            bounds = problem.bounds_of(route.name, cluster)
            weight = solution.plan.weights[route.name][cluster]
            assert bounds.min_weight - 1e-6 <= weight <= bounds.max_weight + 1e-6
    for candidate in solution.candidates:
        assert np.isfinite(candidate.objective)
        assert candidate.seconds >= 0.0
    for part in ("weights", "limits"):
        assert sum(c.won for c in solution.candidates if c.part == part) <= 1


def solvers(solution: Solution) -> set[str]:
    return {candidate.solver for candidate in solution.candidates}


def test_best_runs_both_and_takes_the_better(make_demo: Make) -> None:
    problem = make_demo()
    solution = solve(problem)
    check(problem, solution)
    assert solvers(solution) == {"born-machine", "newton", "qaoa", "exhaustive"}
    assert solution.objective < solution.incumbent_objective
    first = {c.solver: c.objective for c in solution.candidates if c.detail["round"] == 1}
    assert first["born-machine"] == pytest.approx(first["newton"], rel=1e-3)
    assert first["qaoa"] >= first["exhaustive"] * (1 - 1e-12)
    loads = solution.plan.loads(problem.demands)
    assert all(loads[k] < 0.8 * problem.curves[k].capacity for k in loads)
    # Three queues of 8, 4 and 2 slots at 70% of their capacity: 25 ms, whoever computes it.
    assert 0.02 < solution.predicted_latency < 0.03


def test_a_mesh_of_routes_over_one_cluster_each_has_limits_to_decide() -> None:
    topology = Topology(
        (Cluster("a"), Cluster("b")), (Route("x", ("a",)), Route("y", ("b",)), Route("z", ("a",)))
    )
    curves = {"a": LatencyCurve(0.02, 400.0), "b": LatencyCurve(0.02, 50.0)}
    demands = {"x": 100.0, "y": 45.0, "z": 50.0}
    problem = Problem(topology, demands, curves, Plan.equal(topology))
    solution = solve(problem)
    check(problem, solution)
    assert solution.plan.weights == {"x": {"a": 1.0}, "y": {"b": 1.0}, "z": {"a": 1.0}}
    assert set(solution.plan.limits) == {"a", "b"}
    assert solution.objective < solution.incumbent_objective


def test_modes_agree_on_an_easy_mesh(make_demo: Make) -> None:
    found = {mode: solve(make_demo(solver=mode)) for mode in ("best", "variational", "classical")}
    assert solvers(found["variational"]) == {"born-machine", "qaoa"}
    assert solvers(found["classical"]) == {"newton", "exhaustive"}
    for solution in found.values():
        assert solution.objective == pytest.approx(found["best"].objective, rel=1e-3)
    assert any(c.won for c in found["variational"].candidates)


def test_larger_meshes_use_the_larger_solvers(make_mesh: Make) -> None:
    guard = GuardPolicy(Bounds(0.0, 1.0), probe_floor=0.0)
    problem = make_mesh(30, 7, 1, load=0.5, guard=guard, solver="classical")
    solution = solve(problem)
    check(problem, solution)
    assert solvers(solution) == {"newton", "blocks"}


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), load=st.floats(0.2, 1.3))
def test_never_worse_than_the_incumbent(make_mesh: Make, seed: int, load: float) -> None:
    problem = make_mesh(4, 2, seed, load=load, subsets=True, solver="classical")
    once = solve(problem)
    check(problem, once)
    assert once.objective <= once.incumbent_objective
    # Also when the incumbent is already good, and the traffic has moved a little.
    moved = {r: d * 1.02 for r, d in problem.demands.items()}
    again = replace(problem, incumbent=once.plan, demands=moved, solver="variational")
    twice = solve(again)
    check(again, twice)
    assert twice.objective <= twice.incumbent_objective


def test_a_plan_that_is_optimal_stays(make_demo: Make) -> None:
    """Solving again from the answer moves nothing worth a push, limits not at all."""
    problem = make_demo()
    plan = solve(problem).plan
    again = solve(replace(problem, incumbent=plan))
    assert again.plan.distance(plan) < 0.01
    assert again.plan.limits == plan.limits


def test_an_incumbent_that_nothing_beats_is_returned_itself(make_demo: Make) -> None:
    policy = ObjectivePolicy(churn_price=100.0, limit_churn_price=100.0)
    problem = make_demo(objective=policy)
    kept = Objective(problem).plan(Objective(problem).initial, Objective(problem).ladder[:, 3])
    problem = replace(problem, incumbent=kept)
    solution = solve(problem)
    assert solution.plan is problem.incumbent
    assert solution.objective == solution.incumbent_objective
    assert not any(c.won for c in solution.candidates)


def test_an_incumbent_outside_its_bounds_is_brought_inside(make_demo: Make) -> None:
    best = solve(make_demo(solver="classical")).plan
    bounds = {("a", "large"): Bounds(0.0, 0.2)}
    guard = GuardPolicy(cluster_bounds=bounds)
    problem = make_demo(solver="classical", guard=guard)
    problem = replace(problem, incumbent=best)
    solution = solve(problem)
    check(problem, solution)
    assert solution.plan.weights["a"]["large"] <= 0.2 + 1e-9


@pytest.mark.parametrize("mode", ["best", "variational"])
def test_a_failing_circuit_leaves_the_classical_plan(make_demo: Make, mode: str) -> None:
    broken = CircuitSettings(device="no.such.device")
    solution = solve(make_demo(solver=mode, circuits=broken))
    errors = {c.solver: str(c.detail["error"]) for c in solution.candidates if "error" in c.detail}
    assert errors.keys() == {"born-machine", "qaoa"}
    assert all("install its PennyLane plugin" in message for message in errors.values())
    assert {c.solver for c in solution.candidates if c.won} == {"newton", "exhaustive"}
    assert solution.objective == solve(make_demo(solver="classical")).objective


def test_the_same_seed_gives_the_same_plan(make_mesh: Make) -> None:
    patient = CircuitSettings(seconds=60.0)
    problem = make_mesh(6, 2, 3, load=0.6, solver="variational", circuits=patient)
    problem = replace(problem, seed=11)
    assert solve(problem).plan == solve(problem).plan


def test_one_cluster_one_route() -> None:
    topology = Topology((Cluster("a"),), (Route("r", ("a",)),))
    problem = Problem(topology, {"r": 50.0}, {"a": LatencyCurve(0.02, 100.0)}, Plan.equal(topology))
    solution = solve(problem)
    check(problem, solution)
    assert solution.plan.weights["r"]["a"] == 1.0
    assert "a" in solution.plan.limits


def test_a_ladder_of_one_rung_leaves_nothing_to_decide(make_demo: Make) -> None:
    problem = make_demo(objective=ObjectivePolicy(ladder=(4.0,)))
    solution = solve(problem)
    check(problem, solution)
    assert {k: m.max_requests for k, m in solution.plan.limits.items()} == {
        k: int(m) for k, m in zip(problem.curves, Objective(problem).ladder[:, 0], strict=True)
    }


def test_limits_of_the_incumbent_bound_what_it_costs(make_demo: Make) -> None:
    """Envoy's default of 1,024 queues seconds of work on a drowning cluster: J must see it."""
    problem = make_demo()
    tight = Plan(problem.incumbent.weights, {k: BreakerLimits.around(20) for k in problem.curves})
    objective = Objective(problem)
    assert objective.of_plan(problem.incumbent) > 3 * objective.of_plan(tight)


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_several_starts_find_lower_valleys(make_mesh: Make, seed: int) -> None:
    problem = make_mesh(5, 2, seed, load=0.78)
    objective = Objective(problem)
    assert is_crowded(objective)
    assert not is_crowded(Objective(make_mesh(5, 2, seed, load=0.5)))
    limits = objective.ladder[:, 3]
    found = starts(objective, objective.project(objective.initial), limits, SEVERAL)
    values = [float(objective.evaluate(w, limits)) for w in found]
    assert values == sorted(values)
    assert len(found) == SEVERAL
    ends = [float(objective.evaluate(slsqp(objective, limits, w).value, limits)) for w in found]
    assert min(ends) < max(ends)


@pytest.mark.parametrize("couple", [coupled, calling])
def test_circuits_and_rivals_know_hosts_and_calls(
    make_mesh: Make, couple: Callable[[Problem, int], Problem]
) -> None:
    problem = couple(make_mesh(4, 2, 3, load=0.6), 3)
    assert is_crowded(Objective(problem)) or couple is calling
    solution = solve(replace(problem, circuits=CircuitSettings(seconds=60.0)))
    check(problem, solution)
    assert solution.objective < solution.incumbent_objective
    weights = [c.objective for c in solution.candidates if c.part == "weights"]
    assert max(weights[:2]) < 1.005 * min(weights[:2]), "the circuit and its rival agree"
