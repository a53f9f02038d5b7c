from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.simplex import fill, project

sizes = st.integers(1, 12)
seeds = st.integers(0, 2**32 - 1)


@given(sizes, seeds)
def test_projection_is_allowed_and_nearest(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.dirichlet(np.ones(size), 2)
    low = np.maximum(inside.min(axis=0) - rng.uniform(0, 0.3, size), 0.0)
    high = np.minimum(inside.max(axis=0) + rng.uniform(0, 0.3, size), 1.0)
    point = rng.normal(size=(1, size))
    found = project(point, low[None], high[None])[0]
    assert abs(found.sum() - 1.0) < 1e-12
    assert (found >= low).all()
    assert (found <= high).all()
    # Nearest in a convex set: every other allowed point lies on the far side.
    for other in inside:
        assert (point[0] - found) @ (other - found) < 1e-12


@given(sizes, seeds)
def test_allowed_points_stay(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = rng.dirichlet(np.ones(size), 3)
    found = project(w, np.zeros_like(w), np.ones_like(w))
    np.testing.assert_allclose(found, w, atol=1e-12)


@given(st.integers(2, 12), seeds)
def test_absent_entries_stay_zero(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    here = rng.random(size) < 0.6
    assume(here.any())
    found = project(rng.normal(size=(1, size)), np.zeros((1, size)), here[None].astype(np.float64))
    assert not found[0, ~here].any()
    assert abs(found.sum() - 1.0) < 1e-12


@given(sizes, seeds)
def test_filling_is_allowed_and_cheapest(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.dirichlet(np.ones(size), 2)
    low = np.maximum(inside.min(axis=0) - rng.uniform(0, 0.3, size), 0.0)
    high = np.minimum(inside.max(axis=0) + rng.uniform(0, 0.3, size), 1.0)
    aim, corner = rng.normal(size=size), rng.uniform(-0.2, 1.2, size)
    curvature, price = 10.0 ** rng.uniform(-3, 3, size), 10.0 ** rng.uniform(-3, 1, size)
    parts = (aim, curvature, price, corner, low, high)
    found = fill(*(part[None] for part in parts))[0]
    assert abs(found.sum() - 1.0) < 1e-9
    assert (found >= low - 1e-12).all()
    assert (found <= high + 1e-12).all()

    def cost(w: Array) -> float:
        return float((0.5 * curvature * (w - aim) ** 2 + price * np.abs(w - corner)).sum())

    # The cost is convex: what beats every point on the way to others beats them.
    for other in inside:
        for part in (1e-4, 1e-2, 1.0):
            assert cost(found) <= cost(found + part * (other - found)) + 1e-9 * (1 + cost(found))


def test_bounds_that_leave_one_point() -> None:
    low = np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(project(np.array([[9.0, 0.0, -9.0]]), low, low + 0.1), low)
    high = np.array([[0.25, 0.25, 0.5]])
    np.testing.assert_allclose(project(np.zeros((1, 3)), 0.0 * high, high), high)
