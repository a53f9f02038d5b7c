from __future__ import annotations

from itertools import pairwise

import numpy as np
import pennylane as qml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh import MeshError
from eigenmesh.optimize.angles import Angles, load
from eigenmesh.optimize.circuits.ansatz import x_layers
from eigenmesh.optimize.circuits.device import Device, expanded
from eigenmesh.optimize.circuits.noise import Noise, draw, noisy_probabilities, unconfused
from eigenmesh.optimize.circuits.operations import DiagonalCost

QUBITS = 4


def cost(seed: int = 0) -> DiagonalCost:
    return DiagonalCost(np.random.default_rng(seed).normal(size=2**QUBITS))


@pytest.mark.parametrize("fold", [1, 3])
def test_without_noise_it_is_the_circuit_however_often_it_is_folded(fold: int) -> None:
    rng = np.random.default_rng(1)
    found = noisy_probabilities(cost(), load(3), Noise(), rng, fold=fold, trajectories=2)
    expected = Device("lightning.qubit", QUBITS).probabilities(x_layers(cost(), load(3)), QUBITS)
    np.testing.assert_allclose(found, np.stack((expected, expected)), atol=1e-12)


def test_the_mean_of_trajectories_is_the_density_matrix() -> None:
    strength = 0.02
    angles = Angles("", np.array([0.5, 0.9]), np.array([-0.6, -0.3]))
    gates: list[qml.operation.Operation] = []
    mixed = [np.kron(a, b) for a in PAULIS for b in PAULIS]
    kraus = [np.sqrt(strength / 16) * m for m in mixed]
    kraus[0] = np.sqrt(1.0 - strength * 15 / 16) * mixed[0]
    for gate in expanded(x_layers(cost(), angles))[0]:
        if isinstance(gate, qml.IsingZZ | qml.MultiRZ):
            chain = list(pairwise(gate.wires))
            cnots = [(qml.CNOT(pair), qml.QubitChannel(kraus, wires=pair)) for pair in chain]
            gates += [op for pair in cnots for op in pair]
            gates.append(qml.RZ(gate.data[0], wires=gate.wires[-1]))
            gates += [op for pair in reversed(cnots) for op in pair]
        else:
            gates.append(gate)
    device = qml.device("default.mixed", wires=QUBITS)
    tape = qml.tape.QuantumScript(gates, [qml.probs(wires=range(QUBITS))])
    expected = qml.execute([tape], device, diff_method=None)[0]
    rng = np.random.default_rng(2)
    found = noisy_probabilities(cost(), angles, Noise(strength), rng, trajectories=4000)
    spread = found.std(axis=0) / np.sqrt(4000)
    assert np.all(np.abs(found.mean(axis=0) - expected) < 4.5 * spread + 1e-9)
    clean = noisy_probabilities(cost(), angles, Noise(), rng, trajectories=1)[0]
    assert np.abs(expected - clean).max() > 10 * spread.max()


PAULIS = [
    np.eye(2),
    np.array([[0, 1], [1, 0]]),
    np.array([[0, -1j], [1j, 0]]),
    np.diag([1, -1]),
]


@given(st.floats(0.0, 0.3), st.integers(0, 1000))
def test_misread_bits_are_undone_in_the_mean(readout: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, p = rng.normal(size=8), rng.dirichlet(np.ones(8))
    flip = np.array([[1 - readout, readout], [readout, 1 - readout]])
    seen = np.kron(np.kron(flip, flip), flip) @ p
    assert seen @ unconfused(values, Noise(readout=readout)) == pytest.approx(p @ values)


def test_bits_are_misread_as_often_as_told() -> None:
    rng = np.random.default_rng(3)
    certain = np.zeros((4, 16))
    certain[:, 5] = 1.0
    found = draw(certain, 40_000, Noise(readout=0.1), rng)
    wrong = np.bitwise_count(found ^ 5).mean() / 4
    assert wrong == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("bad", [{"depolarising": -0.1}, {"depolarising": 1.1}, {"readout": 0.5}])
def test_noise_that_cannot_be(bad: dict[str, float]) -> None:
    with pytest.raises(MeshError, match=r"noise\."):
        Noise(**bad)
    with pytest.raises(MeshError, match="use an odd number"):
        noisy_probabilities(cost(), load(1), Noise(), np.random.default_rng(0), fold=2)
