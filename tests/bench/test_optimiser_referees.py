"""The benchmark's referees are right where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.optimiser.continuous import shared
from bench.optimiser.meshes import greedy, milp, model, tabu
from bench.optimiser.pairwise import LEVELS, glass, smooth
from bench.optimiser.referee import doubt, projected_gradient
from eigenmesh.optimize.classical.weights import newton
from eigenmesh.optimize.encoding import rungs_of
from eigenmesh.optimize.objective import Objective


@pytest.mark.parametrize("family", [smooth, glass])
def test_solvers_of_quadratic_models_see_the_same_cost(family: object) -> None:
    cost = family(np.random.default_rng(3), 4)  # type: ignore[operator]
    every = rungs_of(np.arange(LEVELS**4), 4, LEVELS)
    values = [cost.at(rungs).value() for rungs in every]
    qubo = model(cost)
    for rungs, value in zip(every[::17], values[::17], strict=True):
        word = np.stack((rungs >> 1, rungs & 1), axis=1).ravel()
        constant = cost.at(np.zeros(4, dtype=np.int64)).value()
        assert qubo.energy(dict(enumerate(word.tolist()))) + constant == pytest.approx(value)
    best, proven = milp(cost)
    assert proven
    assert best == pytest.approx(min(values), abs=1e-6)
    assert tabu(cost, qubo, 0.02, 1) == pytest.approx(min(values))
    assert greedy(cost, 1, lambda: False) == pytest.approx(min(values))


def test_what_duality_doubts_bounds_the_gap() -> None:
    objective = Objective(shared(np.random.default_rng(5)))
    limits = objective.ladder[:, -1]
    start = objective.capacity_weights()
    best = newton(objective, limits, start, within=1e-12).value
    other = projected_gradient(objective, limits, start, steps=2000).value
    low = float(objective.evaluate(best, limits))
    assert float(objective.evaluate(other, limits)) == pytest.approx(low, rel=1e-5)
    assert doubt(objective, limits, best) < 1e-4
    gap = float(objective.evaluate(start, limits)) / low - 1.0
    assert 0.0 < gap <= doubt(objective, limits, start) * 1.001
