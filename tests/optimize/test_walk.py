from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.optimiser.meshes import mesh, sharing
from eigenmesh.mesh import GuardPolicy, ObjectivePolicy
from eigenmesh.optimize.encoding import rungs_of
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.walk import RungWalk

from .couplings import calling, coupled, retrying

Make = Callable[..., Problem]


@pytest.mark.parametrize("load", [0.4, 0.9, 1.2])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("retries", [False, True])
def test_changes_and_moves_are_those_of_the_objective(
    make_mesh: Make, seed: int, load: float, retries: bool
) -> None:
    policy = ObjectivePolicy(spill=0.9, slo=0.03)
    guard = GuardPolicy(min_limit=12)  # makes some rungs equal
    problem = make_mesh(9, 5, seed, load=load, subsets=True, objective=policy, guard=guard)
    compare(retrying(problem, seed) if retries else problem, seed, 0.02)


@pytest.mark.parametrize("load", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("couple", [coupled, calling])
def test_shared_hosts_and_calls_are_walked_as_they_are_judged(
    make_mesh: Make, couple: Callable[[Problem, int], Problem], seed: int, load: float
) -> None:
    policy = ObjectivePolicy(spill=0.9, slo=0.03)
    compare(couple(make_mesh(9, 5, seed, load=load, objective=policy), seed), seed, 0.1)


@pytest.mark.parametrize("demand", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("seed", range(10))
def test_what_a_block_does_not_touch_is_left_out_of_its_price(seed: int, demand: float) -> None:
    """Most of forty clusters share neither a route nor a host with a block of three."""
    rng = np.random.default_rng(seed)
    problem = sharing(rng, mesh(rng, 40))
    demands = {route: demand * d for route, d in problem.demands.items()}
    policy = ObjectivePolicy(spill=0.9, slo=0.03)
    compare(replace(problem, demands=demands, objective=policy), seed, 0.2)


@settings(max_examples=25, deadline=None)
@given(
    clusters=st.integers(2, 12),
    routes=st.integers(1, 5),
    load=st.floats(0.2, 1.3),
    spill=st.floats(0.0, 1.0),
    seed=st.integers(0, 10**6),
)
def test_whatever_the_mesh_a_walk_is_where_its_moves_lead(
    make_mesh: Make, clusters: int, routes: int, load: float, spill: float, seed: int
) -> None:
    """The costs that moves are judged by, and those that are read next, are not those of where it
    began: a walk that stands there at once knows the same."""
    policy = ObjectivePolicy(spill=spill)
    alone = make_mesh(clusters, routes, seed, load=load, subsets=True, objective=policy)
    objective = Objective(coupled(alone, seed))
    rng = np.random.default_rng(seed)
    count = len(objective.clusters)
    walk = RungWalk(objective, objective.initial, rng.integers(0, 4, count))
    for _ in range(6):
        block = rng.choice(count, min(count, 3), replace=False).tolist()
        wanted = walk.rungs.copy()
        wanted[block] = rng.integers(0, 4, len(block))
        here = walk.value()
        there = float(objective.evaluate_rungs(objective.initial, wanted[None])[0])
        moved = walk.move(block, wanted[block])
        assert moved == (there < here) or there == pytest.approx(here, rel=1e-9)
    again = RungWalk(objective, objective.initial, walk.rungs)
    block = list(range(min(count, 3)))
    np.testing.assert_allclose(walk.changes(block), again.changes(block), atol=1e-9 * here)


def compare(problem: Problem, seed: int, within: float) -> None:
    """Changes are the objective's to `within` of their spread; moves are made by the objective."""
    objective = Objective(problem)
    rng = np.random.default_rng(seed)
    w = objective.shares(rng.exponential(size=objective.initial.size))
    clusters = len(objective.clusters)
    walk = RungWalk(objective, w, rng.integers(0, 4, clusters))
    for _ in range(4):
        block = rng.choice(clusters, 3, replace=False).tolist()
        here, rungs = walk.value(), walk.rungs.copy()
        exact = objective.diagonal(w, block, rungs) - here
        changes = walk.changes(block)
        assert np.abs(changes - exact).max() <= within * exact.std() + 1e-12
        for state in (int(changes.argmin()), int(changes.argmax())):
            standing = walk.value()
            wanted = walk.rungs.copy()
            wanted[block] = rungs_of(state, 3, 4)
            there = float(objective.evaluate_rungs(w, wanted[None])[0])
            moved = walk.move(block, wanted[block])
            assert moved == (there < standing - 1e-15) or abs(there - standing) < 1e-12
            assert walk.value() == pytest.approx(there if moved else standing, rel=1e-12)
            assert not moved or np.array_equal(walk.rungs, objective.lowest_equal(wanted))
