from __future__ import annotations

import numpy as np
import pytest

from eigenmesh.optimize.statevector import phase, rotate_x, sum_x, uniform

X = np.array([[0.0, 1.0], [1.0, 0.0]])


def total_x(qubits: int) -> np.ndarray:
    out = np.zeros((2**qubits, 2**qubits))
    for w in range(qubits):
        out += np.kron(np.kron(np.eye(2**w), X), np.eye(2 ** (qubits - w - 1)))
    return out


def random_states(qubits: int, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(qubits)
    psi = rng.normal(size=(count, 2**qubits)) + 1j * rng.normal(size=(count, 2**qubits))
    out: np.ndarray = psi / np.linalg.norm(psi, axis=1, keepdims=True)
    return out


@pytest.mark.parametrize("qubits", range(1, 10))
def test_the_mixer_is_the_exponential_of_what_generates_it(qubits: int) -> None:
    psi, matrix = random_states(qubits), total_x(qubits)
    np.testing.assert_allclose(sum_x(psi), psi @ matrix, atol=1e-12)
    np.testing.assert_allclose(sum_x(psi[0]), matrix @ psi[0], atol=1e-12)
    values, vectors = np.linalg.eigh(matrix)
    turned = (vectors * np.exp(-0.7j * values)) @ vectors.T
    np.testing.assert_allclose(rotate_x(psi, 0.7), psi @ turned.T, atol=1e-12)


def test_single_precision_stays_single_and_close() -> None:
    costs = np.random.default_rng(0).normal(size=2**10)
    exact = rotate_x(phase(uniform((2**10,)), 1.3, costs), -0.4)
    short = rotate_x(phase(uniform((2**10,), np.complex64), 1.3, costs.astype(np.float32)), -0.4)
    assert short.dtype == np.complex64
    assert np.linalg.norm(short - exact) < 1e-5


def test_a_phase_changes_no_probability() -> None:
    psi = random_states(4)
    costs = np.random.default_rng(1).normal(size=(2, 16))
    np.testing.assert_allclose(np.abs(phase(psi, 2.1, costs)), np.abs(psi))
    np.testing.assert_allclose(phase(psi, 0.9, costs[0])[1], psi[1] * np.exp(-0.9j * costs[0]))
