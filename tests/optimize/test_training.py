from __future__ import annotations

import numpy as np
import pytest

from eigenmesh.mesh import MeshError
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import load
from eigenmesh.optimize.training import (
    evolve,
    near_optimal,
    score_and_gradient,
    standardised,
    train,
)


def instances(count: int, qubits: int, seed: int) -> Array:
    """Random couplings between qubits: Ising costs of both signs."""
    rng = np.random.default_rng(seed)
    z = 1.0 - 2.0 * ((np.arange(2**qubits)[:, None] >> np.arange(qubits)) & 1)
    return np.stack(
        [
            np.einsum("si,ij,sj->s", z, rng.normal(size=(qubits, qubits)), z)
            + z @ rng.normal(size=qubits)
            for _ in range(count)
        ]
    )


def test_evolution_is_unitary_and_begins_uniform() -> None:
    costs = standardised(instances(2, 5, 0))
    np.testing.assert_allclose(np.abs(evolve(costs, np.zeros(0), np.zeros(0))) ** 2, 1 / 32)
    psi = evolve(costs, np.array([0.3, 1.1]), np.array([-0.7, 0.2]))
    np.testing.assert_allclose((np.abs(psi) ** 2).sum(axis=1), 1.0)


@pytest.mark.parametrize("qubits", [4, 5])
def test_gradient_is_the_finite_difference(qubits: int) -> None:
    costs = standardised(instances(3, qubits, 1))
    good = near_optimal(costs, 0.1)
    x = np.random.default_rng(2).normal(size=8)
    _, gradient = score_and_gradient(costs, good, x)
    for i in range(8):
        step = np.eye(8)[i] * 1e-6
        up, _ = score_and_gradient(costs, good, x + step)
        down, _ = score_and_gradient(costs, good, x - step)
        assert gradient[i] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-7)


def test_near_optimal_is_measured_from_the_mean() -> None:
    costs = np.array([[-1.0, -0.995, -0.98, 2.975]])
    assert near_optimal(costs).tolist() == [[True, True, False, False]]


def test_training_transfers_to_unseen_instances() -> None:
    found = train([instances(12, 5, 3)], 3, steps=40)
    unseen = standardised(instances(20, 6, 4))
    good = near_optimal(unseen)
    trained = (np.abs(evolve(unseen, found.gammas, found.betas)) ** 2 * good).sum(axis=1)
    assert np.median(trained / good.mean(axis=1)) > 4.0
    assert found.score <= 0.0


@pytest.mark.parametrize("layers", [6, 10])
def test_shipped_angles_concentrate_on_optima_of_any_sort(layers: int) -> None:
    angles = load(layers)
    assert angles.gammas.shape == angles.betas.shape == (layers,)
    unseen = standardised(instances(30, 8, 5))
    good = near_optimal(unseen)
    p = (np.abs(evolve(unseen, angles.gammas, angles.betas)) ** 2 * good).sum(axis=1)
    assert (1.0 - (1.0 - p) ** 256).mean() > 0.99


def test_angles_that_were_not_trained() -> None:
    with pytest.raises(MeshError, match="use one of: 1, 2, 3"):
        load(11)
    with pytest.raises(MeshError, match="use one of: smooth, cliff, glass, mesh, mixture"):
        load(6, "other")
