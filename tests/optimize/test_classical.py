from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from eigenmesh.mesh import Bounds, GuardPolicy
from eigenmesh.optimize.classical.rungs import blocks, coordinate, exhaustive, polish
from eigenmesh.optimize.classical.weights import newton, slsqp
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem
from tests.optimize.couplings import coupled

Make = Callable[..., Problem]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("load", [0.5, 0.72])
def test_two_methods_find_the_same_optimum(make_mesh: Make, seed: int, load: float) -> None:
    objective = Objective(make_mesh(5, 2, seed, load=load))
    limits = objective.ladder[:, 3]
    start = objective.capacity_weights()
    found = [method(objective, limits, start).value for method in (slsqp, newton)]
    values = [float(objective.evaluate(w, limits)) for w in found]
    assert values[0] == pytest.approx(values[1], rel=2e-5)
    # And no allowed point near it is better.
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(20):
            other = objective.project(found[0] + size * rng.normal(size=found[0].shape))
            assert objective.evaluate(other, limits) > values[0] * (1 - 1e-6)


def test_demo_weights_are_the_water_filling_ones(make_demo: Make) -> None:
    """Marginal costs of clusters that carry traffic are equal at the optimum."""
    objective = Objective(make_demo())
    limits = objective.ladder[:, 3]
    found = newton(objective, limits, objective.initial).value
    _, gradient = objective.value_and_gradient(found, limits)
    for row in gradient.reshape(2, 3):
        assert np.ptp(row) < 2e-3 * np.abs(row).max()


@pytest.mark.parametrize("method", [slsqp, newton])
def test_weights_keep_their_bounds(make_mesh: Make, method: Callable[..., object]) -> None:
    bounds = {("r0", "c0"): Bounds(0.0, 0.05), ("r1", "c1"): Bounds(0.5, 0.6)}
    objective = Objective(make_mesh(4, 2, 1, guard=GuardPolicy(cluster_bounds=bounds)))
    found = method(objective, objective.ladder[:, 3], objective.project(objective.initial))
    w = found.value  # type: ignore[attr-defined]
    assert (w >= objective.low - 1e-12).all()
    assert (w <= objective.high + 1e-12).all()
    np.testing.assert_allclose(objective.by_route.sum(w), 1.0, atol=1e-12)
    assert w[5] >= 0.5 - 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_coordinate_descent_finds_the_exhaustive_optimum(make_mesh: Make, seed: int) -> None:
    objective = Objective(make_mesh(5, 2, seed, load=1.0))
    w = objective.capacity_weights()
    best, found = exhaustive(objective, w), coordinate(objective, w, objective.initial_rungs)
    values = objective.evaluate_rungs(w, np.stack((best.value, found.value)))
    assert values[0] == pytest.approx(
        objective.diagonal(w, range(5), objective.initial_rungs).min(), rel=1e-12
    )
    assert values[1] == pytest.approx(values[0], rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_polish_only_improves_and_ends_at_a_local_best_of_the_last(
    make_mesh: Make, seed: int
) -> None:
    objective = Objective(make_mesh(4, 2, seed, load=1.1))
    w = objective.initial
    start = np.random.default_rng(seed).integers(0, 4, 4)
    end = polish(objective, w, start)
    values = objective.evaluate_rungs(w, np.stack((start, end)))
    assert values[1] <= values[0]
    moves = np.tile(end, (4, 1))
    moves[:, 3] = range(4)
    assert values[1] <= objective.evaluate_rungs(w, moves).min() + 1e-12


@pytest.mark.parametrize("clusters", [7, 12])
@pytest.mark.parametrize("couple", [lambda problem, seed: problem, coupled])
def test_blocks_find_what_every_combination_shows(
    make_mesh: Make, couple: Callable[[Problem, int], Problem], clusters: int
) -> None:
    """Seven clusters are one block, twelve are three: the truth is known of the first, and of the
    second, coordinate descent from nine starts is the rival."""
    problem = couple(make_mesh(clusters, 4, 3, load=1.0, subsets=True), 3)
    objective = Objective(problem)
    w, start = objective.capacity_weights(), objective.initial_rungs
    found = blocks(objective, w, start)
    value = float(objective.evaluate_rungs(w, found.value[None])[0])
    if clusters == 7:
        assert found.detail["blocks"] == 1
        best = float(objective.diagonal(w, range(len(start)), start).min())
    else:
        assert float(found.detail["blocks"]) > 1
        rival = coordinate(objective, w, start).value
        best = float(objective.evaluate_rungs(w, rival[None])[0])
    assert value <= best * (1.0 + 1e-9)
