from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest

from eigenmesh.mesh import MeshError
from eigenmesh.optimize.circuits.operations import (
    CostPhase,
    DiagonalCost,
    MixerTilted,
    MixerX,
    tilted,
)
from eigenmesh.optimize.statevector import product, rotate_about, rotate_x


@pytest.mark.parametrize("kept", [1.0, 0.99])
def test_terms_carry_the_cost(kept: float) -> None:
    costs = np.random.default_rng(0).normal(size=64) ** 3
    found = DiagonalCost(costs).truncated(kept, 1000)
    z = 1.0 - 2.0 * ((np.arange(64)[:, None] >> np.arange(5, -1, -1)) & 1)
    rebuilt = sum(c * z[:, list(wires)].prod(axis=1) for wires, c in found.terms) + costs.mean()
    np.testing.assert_allclose(rebuilt, found.values, atol=1e-12)
    assert np.mean((rebuilt - costs) ** 2) <= (1.0 - kept) * costs.var() + 1e-12
    assert len(found.terms) < 63 or kept == 1.0
    sizes = [abs(c) for _, c in found.terms]
    assert sizes == sorted(sizes, reverse=True)
    assert len(DiagonalCost(costs).truncated(1.0, 7).terms) == 7


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros(1), np.zeros((2, 2)), np.full(4, np.nan)])
def test_what_is_no_cost_of_qubits(values: np.ndarray) -> None:
    with pytest.raises(MeshError, match=r"cost\.values"):
        DiagonalCost(values)


def test_a_cost_does_not_fit_other_wires() -> None:
    with pytest.raises(MeshError, match="this cost has 2 qubits"):
        CostPhase(0.1, DiagonalCost(np.arange(4.0)), wires=range(3))


def test_operations_are_what_they_decompose_into() -> None:
    cost = DiagonalCost(np.random.default_rng(1).normal(size=8))
    for op in (
        CostPhase(0.7, cost, wires=[0, 1, 2]),
        MixerX(-0.4, wires=[0, 1, 2]),
        MixerTilted(-0.4, tilted(5, 3, 0.2), wires=[0, 1, 2]),
    ):
        found = qml.matrix(qml.tape.QuantumScript(op.decomposition()), wire_order=[0, 1, 2])
        generator = qml.matrix(op.generator(), wire_order=[0, 1, 2])
        values, vectors = np.linalg.eigh(generator)
        expected = (vectors * np.exp(1j * op.data[0] * values)) @ vectors.conj().T
        np.testing.assert_allclose(found, expected, atol=1e-12)
        back = qml.matrix(qml.tape.QuantumScript(op.adjoint().decomposition()), range(3))
        np.testing.assert_allclose(back @ found, np.eye(8), atol=1e-12)


def test_a_tilted_mixer_leaves_the_state_that_it_leans_to() -> None:
    angles = tilted(6, 3, 0.3)
    start = product(angles)
    assert int(np.abs(start).argmax()) == 6
    turned = rotate_about(start, 0.7, angles)
    assert abs(np.vdot(start, turned)) == pytest.approx(1.0)
    np.testing.assert_allclose(tilted(6, 3, 0.0), np.full(3, np.pi / 2))
    np.testing.assert_allclose(
        rotate_about(start, 0.7, tilted(0, 3, 0.0)), rotate_x(start, 0.7), atol=1e-12
    )


def test_operations_pass_through_pennylane() -> None:
    op = CostPhase(0.7, DiagonalCost(np.arange(4.0)), wires=["a", "b"])
    data, metadata = op._flatten()
    again = CostPhase._unflatten(data, metadata)
    assert again.cost is op.cost
    assert again.wires == op.wires
    assert "exp(-i" in qml.drawer.tape_text(qml.tape.QuantumScript([op, MixerX(0.2, ["a", "b"])]))
