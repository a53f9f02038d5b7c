from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenmesh.mesh import (
    Bounds,
    BreakerLimits,
    Cluster,
    GuardPolicy,
    LatencyCurve,
    ObjectivePolicy,
    Plan,
    Route,
    Topology,
    admitted_latency,
    blocked_fraction,
)
from eigenmesh.mesh.curve import RHO_MAX, Array
from eigenmesh.optimize.encoding import rungs_of
from eigenmesh.optimize.objective import NEAREST, Objective
from eigenmesh.optimize.portfolio import solve
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.simplex import project

from .couplings import calling, coupled, retrying

Make = Callable[..., Problem]


def reference(problem: Problem, plan: Plan) -> float:
    """J as the module's first page has it, one request stream after the other."""
    policy, names = problem.objective, problem.topology.steered_clusters
    routes = {r.name: r.clusters for r in problem.topology.routes}

    topology, curves = problem.topology, problem.curves

    def limit(plan: Plan, k: str) -> int:
        return plan.limits[k].max_requests if k in plan.limits else 1024

    def felt(k: str, loads: Mapping[str, float], admitted: Mapping[str, float]) -> float:
        host = topology.by_name[k].host
        kappa = topology.couplings.get(host or "") or 0.0
        others = [j for j in topology.shared_hosts.get(host or "", ()) if j != k]
        used = sum(admitted[j] / curves[j].capacity for j in others)
        return loads[k] + kappa * curves[k].capacity * used

    def all_loads(plan: Plan, external: Mapping[str, float]) -> tuple[dict[str, float], ...]:
        """Route by route, each after all that call it."""
        demand, loads = dict(external), dict.fromkeys(names, 0.0)
        todo = list(routes)
        while todo:
            r = next(r for r in todo if not any(r in calls_of(q) for q in todo if q != r))
            todo.remove(r)
            for k in routes[r]:
                load = demand[r] * plan.weights[r].get(k, 0.0)
                loads[k] += load
                for call in topology.by_name[k].calls:
                    demand[call.route] += (call.ratio or 0.0) * load
        return demand, loads

    def calls_of(route: str) -> set[str]:
        return {c.route for k in routes[route] for c in topology.by_name[k].calls}

    incumbent_loads = problem.incumbent.loads(problem.demands)
    external = {
        r: max(
            0.0,
            problem.demands[r]
            - sum(
                (c.ratio or 0.0) * incumbent_loads[k]
                for k in names
                for c in topology.by_name[k].calls
                if c.route == r
            ),
        )
        for r in routes
    }

    def whole(k: str) -> float:
        """Latency of cluster k under the incumbent, calls and all."""
        _, loads = all_loads(problem.incumbent, external)
        own = curves[k].latency(felt(k, loads, loads))
        return own + sum(
            (c.ratio or 0.0)
            * sum(problem.incumbent.weights[c.route][j] * whole(j) for j in routes[c.route])
            for c in topology.by_name[k].calls
        )

    def occupied(k: str) -> float:
        _, loads = all_loads(problem.incumbent, external)
        return whole(k) / curves[k].latency(felt(k, loads, loads))

    def inner(k: str, load: float, equivalent: float) -> float:
        share = max(load / max(equivalent, 1e-300), 1e-3)
        return limit(plan, k) / occupied(k) / (share if equivalent > load else 1.0)

    def tried(k: str, load: float, equivalent: float) -> tuple[float, float]:
        """Attempts for each request, and the part of them that fails for good."""
        m, curve = inner(k, load, equivalent), curves[k]
        t = float(admitted_latency(equivalent, curve.t0, curve.capacity, m, curve.variability))
        attempts = lost = whole = 0.0
        for route in topology.routes:
            own = problem.incumbent.weights[route.name].get(k, 0.0) * problem.demands[route.name]
            timeout, e = route.retries.per_try_timeout, problem.failures.get(k, 0.0)
            f = e if timeout is None else e + (1.0 - e) * math.exp(-timeout / t)
            attempts += own * min(1.25, sum(f**i for i in range(route.retries.most + 1)))
            lost += own * f ** (route.retries.most + 1)
            whole += own
        return attempts / whole, lost / whole

    def blocked(k: str, load: float, equivalent: float) -> float:
        attempts, _ = tried(k, load, equivalent)
        load, equivalent = load * attempts, equivalent + load * (attempts - 1.0)
        m = inner(k, load, equivalent)
        return float(blocked_fraction(equivalent, curves[k].t0, curves[k].capacity, m))

    def rung(plan: Plan, k: str) -> int:
        curve = problem.curves[k]
        ladder = [
            min(
                max(
                    math.ceil(f * occupied(k) * curve.in_flight(policy.knee * curve.capacity)),
                    problem.guard.min_limit,
                ),
                problem.guard.max_limit,
            )
            for f in policy.ladder
        ]
        return min(range(len(ladder)), key=lambda i: (abs(math.log(limit(plan, k) / ladder[i])), i))

    total = 0.0
    for scenario in policy.scenarios:
        outside = {r: external[r] * scenario.demand_factor for r in routes}
        demand, offered = all_loads(plan, outside)
        loads = dict(offered)
        first = {k: blocked(k, offered[k], felt(k, offered, offered)) for k in names}
        for k in names:
            for r, used in routes.items():
                back = sum(plan.weights[r][j] * first[j] for j in used)
                loads[k] += policy.spill * demand[r] * back * plan.weights[r].get(k, 0.0)
        cost = 0.0
        for k, load in loads.items():
            curve = curves[k]
            at = felt(k, loads, {j: loads[j] * (1.0 - first[j]) for j in names})
            part = blocked(k, load, at)
            attempts, lost = tried(k, load, at)
            cost += policy.error_price * load * lost
            load, at = load * attempts, at + load * (attempts - 1.0)
            m = inner(k, load, at)
            latency = float(admitted_latency(at, curve.t0, curve.capacity, m, curve.variability))
            if policy.quantile is not None:
                inside = min(at, RHO_MAX * curve.capacity)
                latency *= problem.tails.get(k, 1.0) * (
                    curve.quantile(inside, policy.quantile) / curve.latency(inside)
                )
                if policy.quantile >= 0.75:
                    # Nobody waits for more than a full house and his own service.
                    ahead = max(0.0, m - max(1.0, curve.capacity * curve.t0))
                    spread = NormalDist().inv_cdf(policy.quantile) * math.sqrt(ahead)
                    service = -0.8 * math.log(1.0 - policy.quantile) * curve.t0
                    full = (ahead + spread) / curve.capacity + service
                    latency = min(latency, full)
            rejected = load * part
            cost += (load - rejected) * latency
            cost += policy.error_price * rejected
            cost += policy.slo_price * (load - rejected) * max(0.0, latency - policy.slo)
            cost += load * topology.by_name[k].egress_cost
        weight = scenario.weight / sum(s.weight for s in policy.scenarios)
        total += weight * cost / sum(outside.values())
    moved = sum(
        problem.demands[r] * abs(plan.weights[r][k] - problem.incumbent.weights[r].get(k, 0.0)) / 2
        for r, used in routes.items()
        for k in used
    )
    total += policy.churn_price * moved / sum(problem.demands.values())
    moves = [abs(rung(plan, k) - rung(problem.incumbent, k)) for k in names]
    return total + policy.limit_churn_price * sum(moves) / len(moves)


def random_weights(objective: Objective, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return objective.shares(rng.exponential(size=objective.initial.size))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    load=st.floats(0.1, 1.4),
    spill=st.floats(0.0, 1.0),
    mesh=st.sampled_from(["apart", "hosts", "calls"]),
    retries=st.booleans(),
    quantile=st.sampled_from([None, 0.5, 0.99]),
)
def test_objective_is_the_plain_reference(
    make_mesh: Make,
    seed: int,
    load: float,
    spill: float,
    mesh: str,
    retries: bool,
    quantile: float | None,
) -> None:
    policy = ObjectivePolicy(
        quantile, slo=0.04, spill=spill, churn_price=0.01, limit_churn_price=0.01
    )
    problem = make_mesh(
        4, 3, seed, load=load, subsets=True, objective=policy, tails={"c1": 1.3, "c2": 0.7}
    )
    rng = np.random.default_rng(seed)
    limits = {
        k: BreakerLimits.around(int(m))
        for k, m in zip(problem.curves, rng.integers(4, 200, 4), strict=True)
        if m % 3
    }
    if mesh != "apart":
        problem = calling(problem, seed) if mesh == "calls" else coupled(problem, seed)
    if retries:
        problem = retrying(problem, seed)
    problem = replace(problem, incumbent=Plan(problem.incumbent.weights, limits))
    objective = Objective(problem)
    near = 1e-10 if quantile is None else 2e-3  # a quantile is read off a table
    plan = objective.plan(
        random_weights(objective, seed),
        rng.integers(4, 200, len(objective.clusters)).astype(np.float64),
    )
    assert objective.of_plan(plan) == pytest.approx(reference(problem, plan), rel=near)
    incumbent = problem.incumbent
    assert objective.of_plan(incumbent) == pytest.approx(reference(problem, incumbent), rel=near)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    load=st.floats(0.2, 1.3),
    mesh=st.sampled_from(["apart", "hosts", "calls"]),
    retries=st.booleans(),
    quantile=st.sampled_from([None, 0.9]),
)
def test_gradient_is_the_finite_difference(
    make_mesh: Make, seed: int, load: float, mesh: str, retries: bool, quantile: float | None
) -> None:
    # An SLO out of reach: at its kink there is no derivative to compare with.
    policy = ObjectivePolicy(quantile, slo=1e-4, churn_price=0.01, spill=0.8)
    problem = make_mesh(4, 2, seed, load=load, subsets=True, objective=policy)
    if mesh != "apart":
        problem = calling(problem, seed) if mesh == "calls" else coupled(problem, seed)
    if retries:
        problem = retrying(problem, seed)
    objective = Objective(problem)
    w, limits = random_weights(objective, seed), objective.ladder[:, 1]
    # Quantiles are read off a table, and have small corners at its nodes.
    within = 2e-4 if quantile is None else 5e-3
    value, gradient = objective.value_and_gradient(w, limits)
    below = float(objective.evaluate(w, limits)) - value
    assert -1e-12 <= below <= 0.01 * 1.5e-3
    for edge in range(w.size):
        step = np.zeros_like(w)
        step[edge] = 1e-6
        up, _ = objective.value_and_gradient(w + step, limits)
        down, _ = objective.value_and_gradient(w - step, limits)
        slope = (up - down) / 2e-6
        assert gradient[edge] == pytest.approx(slope, rel=within, abs=1e-6)


@pytest.mark.parametrize("load", [0.5, 0.9, 1.2])
def test_rung_table_is_every_plan_one_by_one(make_mesh: Make, load: float) -> None:
    problem = make_mesh(3, 2, 11, load=load)
    objective = Objective(problem)
    w = random_weights(objective, 5)
    table = objective.diagonal(w, range(3), objective.initial_rungs)
    assert table.shape == (64,)
    for state in range(64):
        limits = objective.limits_at(rungs_of(state, 3, 4))
        plan = objective.plan(w, limits)
        assert table[state] == pytest.approx(reference(problem, plan), rel=1e-10)


def test_a_block_holds_the_other_rungs(make_mesh: Make) -> None:
    objective = Objective(make_mesh(4, 2, 3, load=1.0))
    w, held = objective.initial, np.array([3, 1, 0, 2])
    table = objective.diagonal(w, [1, 3], held)
    for state, (a, b) in enumerate(itertools.product((0, 1, 3, 2), repeat=2)):
        rungs = np.array([[3, a, 0, b]])
        alone = objective.evaluate_rungs(w, rungs)[0]
        assert table[state] == pytest.approx(alone, rel=1e-12)


def test_batches_agree_with_single_plans(make_mesh: Make) -> None:
    objective = Objective(make_mesh(4, 2, 3, load=0.9))
    # More than one chunk of each, and broadcasting over two axes.
    many = np.stack([random_weights(objective, s) for s in range(6)])
    limits = objective.ladder.T
    both = objective.evaluate(many[:, None], limits[None])
    assert both.shape == (6, 4)
    alone = float(objective.evaluate(many[4], limits[2]))
    assert both[4, 2] == pytest.approx(alone, rel=1e-12)
    rungs = np.random.default_rng(0).integers(0, 4, (20_000, 4))
    values = objective.evaluate_rungs(many[0], rungs)
    for i in (0, 7_000, 19_999):
        one = float(objective.evaluate(many[0], objective.limits_at(rungs[i])))
        assert values[i] == pytest.approx(one, rel=1e-12)


def test_clipped_rungs_count_as_one(make_mesh: Make) -> None:
    guard = GuardPolicy(min_limit=30, max_limit=30)
    objective = Objective(make_mesh(3, 1, 2, guard=guard))
    table = objective.diagonal(objective.initial, range(3), objective.initial_rungs)
    assert np.ptp(table) == 0.0


def test_ladder_stays_within_the_guard(make_mesh: Make) -> None:
    objective = Objective(make_mesh(5, 2, 1, guard=GuardPolicy(min_limit=20, max_limit=50)))
    assert objective.ladder.min() >= 20
    assert objective.ladder.max() <= 50
    assert (np.diff(objective.ladder, axis=1) >= 0).all()


def test_a_limit_that_the_proxy_adapts_has_one_rung(make_mesh: Make) -> None:
    problem = make_mesh(3, 2, seed=5, load=0.9)
    free = Objective(problem)
    first, *others = problem.topology.clusters
    held = replace(problem.topology, clusters=(replace(first, adaptive=True), *others))
    problem = replace(problem, topology=held)
    objective = Objective(problem)
    assert (objective.ladder[0] == objective.initial_limits[0]).all()
    assert (objective.ladder[1:] == free.ladder[1:]).all()
    chosen = solve(replace(problem, solver="classical")).plan.limits
    assert chosen["c0"].max_requests == objective.initial_limits[0]
    assert any(m.max_requests != objective.initial_limits[0] for m in chosen.values())


def test_a_limit_near_its_rung_stays_as_it_is(make_demo: Make) -> None:
    problem = make_demo()
    ladder = Objective(problem).ladder[:, 2]
    mine = {"large": int(ladder[0] * 1.1), "medium": int(ladder[1] * 1.5), "elsewhere": 77}
    incumbent = Plan(
        problem.incumbent.weights, {k: BreakerLimits.around(m) for k, m in mine.items()}
    )
    plan = Objective(replace(problem, incumbent=incumbent)).plan(Objective(problem).initial, ladder)
    assert plan.limits["large"] == incumbent.limits["large"]
    assert plan.limits["medium"].max_requests == ladder[1]
    assert plan.limits["small"].max_requests == ladder[2]
    assert plan.limits["elsewhere"] == incumbent.limits["elsewhere"]


def test_plan_keeps_routes_that_are_not_asked_about(make_demo: Make) -> None:
    problem = make_demo()
    weights = {**problem.incumbent.weights, "other": {"x": 1.0}}
    objective = Objective(replace(problem, incumbent=Plan(weights, {})))
    plan = objective.plan(objective.capacity_weights(), objective.ladder[:, 3])
    assert plan.weights["other"] == {"x": 1.0}
    assert plan.weights["a"]["large"] == pytest.approx(4 / 7)


def test_predicted_latency_is_the_rate_weighted_mean(make_demo: Make) -> None:
    problem = make_demo()
    objective = Objective(problem)
    plan = objective.plan(objective.capacity_weights(), objective.ladder[:, 3])
    loads = plan.loads(problem.demands)
    parts = [
        loads[k] * float(admitted_latency(loads[k], c.t0, c.capacity, plan.limits[k].max_requests))
        for k, c in problem.curves.items()
    ]
    assert objective.predicted_latency(plan) == pytest.approx(sum(parts) / 490.0, rel=1e-3)


def test_spill_couples_clusters_that_share_a_route(make_demo: Make) -> None:
    objective = Objective(make_demo())
    coupling = objective.coupling(objective.initial).toarray()
    expected = np.full((3, 3), 0.5 * 490.0 / 9)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(coupling, expected)


def test_a_large_route_couples_its_strongest(make_mesh: Make) -> None:
    objective = Objective(make_mesh(300, 1, 2, guard=GuardPolicy(Bounds(0.0, 1.0), probe_floor=0)))
    w = objective.capacity_weights()
    coupling = objective.coupling(w)
    assert coupling.nnz <= 2 * NEAREST * 300
    np.testing.assert_allclose(coupling.toarray(), coupling.toarray().T)
    strongest = np.argsort(-w)[:NEAREST]
    found = coupling.toarray()[np.ix_(strongest, strongest)]
    expected = 0.5 * objective.total * np.outer(w[strongest], w[strongest])
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(found, expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_weights_are_projected_route_by_route(make_mesh: Make, seed: int) -> None:
    objective = Objective(make_mesh(7, 5, seed, subsets=True))
    w = np.random.default_rng(seed).normal(size=(2, objective.initial.size))
    found = objective.project(w)
    for r in range(len(objective.routes)):
        edges = objective.edges_of(r)
        row = project(w[:, edges], objective.low[edges], objective.high[edges])
        np.testing.assert_array_equal(found[:, edges], row)


def test_a_large_mesh_costs_its_edges(make_mesh: Make) -> None:
    """Sums in order and sums by a small matrix are the same: one mesh, and two copies of it."""
    one = make_mesh(6, 4, 3, load=0.9, subsets=True)
    copies = [
        Topology(
            tuple(replace(c, name=f"{copy}{c.name}") for c in one.topology.clusters),
            tuple(
                Route(f"{copy}{r.name}", tuple(f"{copy}{k}" for k in r.clusters))
                for r in one.topology.routes
            ),
        )
        for copy in range(40)
    ]
    topology = Topology(
        tuple(c for t in copies for c in t.clusters), tuple(r for t in copies for r in t.routes)
    )
    many = Problem(
        topology,
        {r.name: one.demands[r.name.lstrip("0123456789")] for r in topology.routes},
        {c.name: one.curves["c" + c.name.split("c")[1]] for c in topology.clusters},
        Plan.equal(topology),
    )
    small, large = Objective(one), Objective(many)
    w = random_weights(small, 1)
    limits = small.ladder[:, 1]
    value, gradient = small.value_and_gradient(w, limits)
    values, gradients = large.value_and_gradient(np.tile(w, 40), np.tile(limits, 40))
    assert values == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(gradients * 40, np.tile(gradient, 40), rtol=1e-9, atol=1e-15)
    assert large.evaluate(np.tile(w, 40), np.tile(limits, 40)) == pytest.approx(
        float(small.evaluate(w, limits)), rel=1e-12
    )


def test_a_limit_has_room_for_the_peaks_of_late_while_they_are_within_the_capacity() -> None:
    topology = Topology((Cluster("a"),), (Route("r", ("a",)),))
    policy = ObjectivePolicy(slo=0.1)
    problem = Problem(
        topology,
        {"r": 33.0},
        {"a": LatencyCurve(0.04, 100.0)},
        Plan.equal(topology),
        objective=policy,
    )
    objective = Objective(problem)
    steady, _ = objective.limit_ranges(problem.incumbent, 0.005)["a"]
    peaks, _ = objective.limit_ranges(problem.incumbent, 0.005, {"r": 85.0})["a"]
    beyond, _ = objective.limit_ranges(problem.incumbent, 0.005, {"r": 150.0})["a"]
    assert peaks > steady
    assert float(blocked_fraction(85.0, 0.04, 100.0, peaks)) <= 0.005
    # What is beyond the capacity has to be turned away anyway, in time.
    assert beyond <= 100.0 * policy.slo
    # A queue that empties by itself is no reason to turn anyone away, however high its bursts.
    light, _ = objective.limit_ranges(problem.incumbent, 0.005, {"r": 150.0}, {"r": 35.0})["a"]
    assert float(blocked_fraction(99.0, 0.04, 100.0, light)) <= 0.005
    busy, _ = objective.limit_ranges(problem.incumbent, 0.005, {"r": 150.0}, {"r": 60.0})["a"]
    assert busy == beyond
