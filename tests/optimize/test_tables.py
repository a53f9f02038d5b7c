from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eigenmesh.mesh import GuardPolicy, ObjectivePolicy
from eigenmesh.optimize import tables
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem

from .couplings import calling, coupled, retrying

Make = Callable[..., Problem]


@pytest.mark.parametrize("quantile", [None, 0.99])
@pytest.mark.parametrize("load", [0.3, 0.8, 1.2])
@pytest.mark.parametrize(
    ("clusters", "routes", "block"),
    [(6, 1, range(6)), (6, 3, range(6)), (9, 2, [1, 3, 4, 7, 8, 0]), (7, 2, [6, 2, 5, 0, 1])],
)
def test_the_fast_table_is_the_objective(
    make_mesh: Make,
    clusters: int,
    routes: int,
    block: list[int],
    load: float,
    quantile: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "EXACT", 1)
    policy = ObjectivePolicy(quantile, slo=0.03, spill=0.9)
    guard = GuardPolicy(min_limit=12)  # makes some rungs equal
    problem = make_mesh(
        clusters, routes, clusters + routes, load=load, subsets=True, objective=policy, guard=guard
    )
    objective = Objective(problem)
    clusters = len(objective.clusters)
    block = [k for k in block if k < clusters]
    rng = np.random.default_rng(1)
    w = objective.shares(rng.uniform(size=objective.initial.size))
    rungs = rng.integers(0, objective.levels, clusters)
    exact = objective.diagonal(w, block, rungs)
    found = tables.block_costs(objective, w, block, rungs)
    assert np.abs(found - exact).max() < 1e-3 * exact.std()
    assert exact[found.argmin()] <= exact.min() + 1e-3 * exact.std()


def test_small_tables_are_exact(make_mesh: Make) -> None:
    objective = Objective(make_mesh(5, 2, 1))
    rungs = objective.initial_rungs
    found = tables.block_costs(objective, objective.initial, range(5), rungs)
    assert np.array_equal(found, objective.diagonal(objective.initial, range(5), rungs))


@pytest.mark.parametrize("couple", [coupled, calling, retrying])
def test_tables_know_hosts_calls_and_retries(
    make_mesh: Make,
    couple: Callable[[Problem, int], Problem],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "EXACT", 1)
    objective = Objective(couple(make_mesh(6, 2, 4, load=0.9), 4))
    assert objective.calls.depth == (couple is calling)
    w, rungs = objective.capacity_weights(), objective.initial_rungs
    exact = objective.diagonal(w, range(6), rungs)
    found = tables.block_costs(objective, w, range(6), rungs)
    assert np.abs(found - exact).max() < 1e-3 * exact.std()


def test_a_price_that_all_share_does_not_blur_the_rest(
    make_mesh: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "EXACT", 1)
    problem = make_mesh(6, 1, 4, load=0.9, objective=ObjectivePolicy(spill=0.0))
    dear = tuple(replace(c, egress_cost=1e3) for c in problem.topology.clusters)
    objective = Objective(replace(problem, topology=replace(problem.topology, clusters=dear)))
    w, rungs = objective.capacity_weights(), objective.initial_rungs
    exact = objective.diagonal(w, range(6), rungs)
    found = tables.block_costs(objective, w, range(6), rungs)
    assert exact.std() < 1e-3 * exact.mean()
    assert np.abs(found - exact).max() < 1e-3 * exact.std()


@pytest.mark.parametrize(("seed", "load"), [(30, 0.7), (1, 1.0), (7, 1.0)])
def test_costs_that_bend_are_read_closely(
    make_mesh: Make, seed: int, load: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "EXACT", 1)
    policy = ObjectivePolicy(slo=0.06 if seed == 7 else 0.15, spill=0.9)
    objective = Objective(make_mesh(5, 1 + seed % 2, seed, load=load, objective=policy))
    w = objective.shares(np.random.default_rng(1).uniform(size=objective.initial.size))
    rungs = np.zeros(5, dtype=np.int64)
    exact = objective.diagonal(w, range(5), rungs)

    def off(nodes: int) -> float:
        monkeypatch.setattr(tables, "NODES", nodes)
        found = tables.block_costs(objective, w, range(5), rungs)
        return float(np.abs(found - exact).max() / exact.std())

    assert off(tables.NODES) < 1e-3 < off(4)
