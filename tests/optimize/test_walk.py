from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eigenmesh.mesh import GuardPolicy, ObjectivePolicy
from eigenmesh.optimize.encoding import rungs_of
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.walk import RungWalk

from .couplings import retrying

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
    objective = Objective(retrying(problem, seed) if retries else problem)
    rng = np.random.default_rng(seed)
    w = objective.shares(rng.exponential(size=objective.initial.size))
    clusters = len(objective.clusters)
    walk = RungWalk(objective, w, rng.integers(0, 4, clusters))
    for _ in range(4):
        block = rng.choice(clusters, 3, replace=False).tolist()
        here, rungs = walk.value(), walk.rungs.copy()
        exact = objective.diagonal(w, block, rungs) - here
        changes = walk.changes(block)
        assert np.abs(changes - exact).max() <= 0.02 * exact.std() + 1e-12
        for state in (int(changes.argmin()), int(changes.argmax())):
            standing = walk.value()
            wanted = walk.rungs.copy()
            wanted[block] = rungs_of(state, 3, 4)
            there = float(objective.evaluate_rungs(w, wanted[None])[0])
            moved = walk.move(block, state)
            assert moved == (there < standing - 1e-15) or abs(there - standing) < 1e-12
            assert walk.value() == pytest.approx(there if moved else standing, rel=1e-12)
            assert not moved or np.array_equal(walk.rungs, objective.lowest_equal(wanted))
