"""The device `eigenmesh.qubit` against `lightning.qubit`, through PennyLane's own front door."""

from __future__ import annotations

from typing import Any

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pennylane import numpy as pnp
from scipy.sparse import diags

from eigenmesh.optimize.circuits.operations import (
    CostPhase,
    DiagonalCost,
    MixerTilted,
    MixerX,
    tilted,
)

WIRES = 4


def test_pennylane_finds_the_device_by_its_name() -> None:
    @qml.qnode(qml.device("eigenmesh.qubit", wires=1))  # type: ignore[untyped-decorator]
    def node() -> Any:
        qml.RX(0.3, wires=0)
        return qml.expval(qml.Z(0))

    assert node() == pytest.approx(np.cos(0.3))


def circuit(gammas: Any, betas: Any, turns: Any, cost: DiagonalCost, measure: Any) -> Any:
    for wire in range(WIRES):
        qml.Hadamard(wire)
    for gamma, beta in zip(gammas, betas, strict=True):
        CostPhase(gamma, cost, wires=range(WIRES))
        MixerX(beta, wires=range(WIRES))
    MixerX(betas[0], wires=[2, 0])
    MixerTilted(betas[1], tilted(5, WIRES, 0.3), wires=range(WIRES))
    MixerTilted(gammas[1], tilted(2, 2, -0.6), wires=[3, 1])
    CostPhase(gammas[0], DiagonalCost(cost.values[:4]), wires=[3, 1])
    qml.SelectPauliRot(turns, control_wires=[0, 3], target_wire=1, rot_axis="Y")
    qml.CNOT([0, 2])
    qml.IsingXY(betas[0], [3, 1])
    qml.CRY(gammas[0], [2, 0])
    qml.Toffoli([0, 1, 2])
    qml.MultiRZ(betas[-1], wires=range(WIRES))
    return measure()


def parameters(seed: int) -> tuple[DiagonalCost, list[Any], np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = [pnp.array(rng.normal(size=n), requires_grad=True) for n in (3, 3, 4)]
    return DiagonalCost(rng.normal(size=2**WIRES)), arrays, rng.normal(size=2**WIRES)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_states_agree_with_lightning(seed: int) -> None:
    cost, arrays, _ = parameters(seed)
    states = [
        qml.QNode(circuit, qml.device(name, wires=WIRES))(*arrays, cost, qml.state)
        for name in ("eigenmesh.qubit", "lightning.qubit")
    ]
    np.testing.assert_allclose(states[0], states[1], atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_adjoint_gradients_agree_with_lightning(seed: int) -> None:
    cost, arrays, diagonal = parameters(seed)
    sparse = qml.SparseHamiltonian(diags(diagonal, format="csr"), wires=range(WIRES))
    for observable in (sparse, qml.X(0) @ qml.Z(1) + 0.3 * qml.Y(2)):
        found = []
        for name in ("eigenmesh.qubit", "lightning.qubit"):
            node = qml.QNode(circuit, qml.device(name, wires=WIRES), diff_method="adjoint")
            measure = lambda o=observable: qml.expval(o)  # noqa: E731
            slopes = qml.grad(node, argnums=[0, 1, 2])(*arrays, cost, measure)
            found.append(np.concatenate([np.ravel(s) for s in slopes]))
        np.testing.assert_allclose(found[0], found[1], atol=1e-10)


def test_every_kind_of_measurement() -> None:
    cost, arrays, _ = parameters(1)

    def measure() -> Any:
        return qml.expval(qml.X(0)), qml.var(qml.Z(1)), qml.probs(wires=[2, 0])

    found, expected = (
        qml.QNode(circuit, qml.device(name, wires=WIRES))(*arrays, cost, measure)
        for name in ("eigenmesh.qubit", "lightning.qubit")
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


def test_shots() -> None:
    cost, arrays, _ = parameters(2)
    device = qml.device("eigenmesh.qubit", wires=WIRES, seed=4)
    exact = qml.QNode(circuit, device)(*arrays, cost, lambda: qml.probs(wires=range(WIRES)))

    def sampled(measure: Any) -> Any:
        return qml.set_shots(qml.QNode(circuit, device), 20_000)(*arrays, cost, measure)

    samples = sampled(lambda: qml.sample(wires=range(WIRES)))
    states = np.asarray(samples) @ (1 << np.arange(WIRES - 1, -1, -1))
    share = np.bincount(states, minlength=2**WIRES) / 20_000
    np.testing.assert_allclose(share, exact, atol=0.02)
    counts = sampled(lambda: qml.counts(wires=[0]))
    assert counts["1"] / 20_000 == pytest.approx(exact[8:].sum(), abs=0.02)
    there = sampled(lambda: qml.expval(qml.X(1)))
    truth = qml.QNode(circuit, device)(*arrays, cost, lambda: qml.expval(qml.X(1)))
    assert there == pytest.approx(truth, abs=0.03)


def test_labels_of_wires_are_free() -> None:
    @qml.qnode(qml.device("eigenmesh.qubit", wires=["b", "a"]))  # type: ignore[untyped-decorator]
    def node() -> Any:
        qml.RY(0.4, wires="a")
        qml.CNOT(["a", "b"])
        return qml.expval(qml.Z("b")), qml.probs(wires=["a", "b"])

    value, p = node()
    assert value == pytest.approx(np.cos(0.4))
    np.testing.assert_allclose(p, [np.cos(0.2) ** 2, 0, 0, np.sin(0.2) ** 2], atol=1e-12)


def test_without_wires_there_is_no_device() -> None:
    with pytest.raises(qml.exceptions.DeviceError, match="give the number of qubits"):
        qml.device("eigenmesh.qubit", wires=None)
