"""The two layers of a QAOA circuit on a state vector, in numpy.

A state has shape (..., 2^n); wire 0 is the most significant bit. The cost layer is one product
with a phase per basis state. The mixer exp(-i beta X) on every qubit is a product of small
matrices, each for GROUP qubits: the middle axis of a state of shape (left, 2^GROUP, right), to
whose rows a matrix product goes without a copy that would bring them together.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from eigenmesh.mesh.curve import Array

State = NDArray[np.complexfloating]

GROUP = 4
"""Qubits a matrix product takes: a 16 x 16 matrix stays in the nearest cache."""


def uniform(shape: tuple[int, ...], dtype: DTypeLike = np.complex128) -> State:
    """The state in which every basis state is as likely, for each leading index."""
    out: State = np.full(shape, shape[-1] ** -0.5, dtype=dtype)
    return out


def phase(state: State, gamma: float, costs: NDArray[np.floating]) -> State:
    """exp(-i gamma costs) applied; costs broadcast to the state and set its precision."""
    turn = np.empty(costs.shape, dtype=state.dtype)
    angle = costs * costs.dtype.type(-gamma)
    np.cos(angle, out=turn.real)
    np.sin(angle, out=turn.imag)
    out: State = turn * state
    return out


def rotate_x(state: State, beta: float) -> State:
    """exp(-i beta X) applied to every qubit."""
    right = states = state.shape[-1]
    for group in _groups(states):
        right >>= group
        state = _on_group(_rotation(beta, group, state.dtype.char), state, right)
    return state


def sum_x(state: State) -> State:
    """The sum of X over all qubits, applied: what generates `rotate_x`."""
    out = np.zeros_like(state)
    right = states = state.shape[-1]
    for group in _groups(states):
        right >>= group
        out += _on_group(_flips(group, state.real.dtype.char), state, right)
    return out


def product(angles: Array, dtype: DTypeLike = np.complex128) -> State:
    """RY(angle) on every qubit (n,) of the state in which all are 0."""
    state = np.ones(1)
    # The last qubit first: the long axis stays the inner one.
    for turn in (0.5 * angles[::-1]).tolist():
        state = np.multiply.outer((np.cos(turn), np.sin(turn)), state).ravel()
    out: State = state.astype(dtype)
    return out


def rotate_about(state: State, beta: float, angles: Array) -> State:
    """exp(-i beta (sin(angle) X + cos(angle) Z)) applied to every qubit, of angles (n,)."""
    right = states = state.shape[-1]
    at = 0
    for group in _groups(states):
        right >>= group
        turns = tuple(angles[at : at + group].tolist())
        state = _on_group(_turn(beta, turns, state.dtype.char), state, right)
        at += group
    return state


def sum_about(state: State, angles: Array) -> State:
    """The sum of sin(angle) X + cos(angle) Z over all qubits, applied: what generates
    `rotate_about`. All sines must be the same."""
    qubits = angles.size
    signs = 1 - 2 * ((np.arange(state.shape[-1])[:, None] >> np.arange(qubits - 1, -1, -1)) & 1)
    diagonal = (signs @ np.cos(angles)).astype(state.real.dtype)
    out: State = float(np.sin(angles[0])) * sum_x(state) + diagonal * state
    return out.astype(state.dtype)


def _on_group(matrix: Array | State, state: State, right: int) -> State:
    """A symmetric matrix applied to the group of qubits with `right` states to its right."""
    rows = state.reshape(-1, len(matrix), right)
    # With nothing to the right, one product instead of one for each row.
    out: State = rows[..., 0] @ matrix if right == 1 else matrix @ rows
    return out.reshape(state.shape)


def _groups(states: int) -> list[int]:
    full, rest = divmod(states.bit_length() - 1, GROUP)
    return [rest] * (rest > 0) + [GROUP] * full


@lru_cache(maxsize=256)
def _rotation(beta: float, qubits: int, kind: str) -> State:
    distance = _distance(qubits)
    out: State = np.cos(beta) ** (qubits - distance) * (-1j * np.sin(beta)) ** distance
    return out.astype(kind)


@lru_cache(maxsize=1024)
def _turn(beta: float, angles: tuple[float, ...], kind: str) -> State:
    out = np.ones((1, 1), dtype=np.complex128)
    for angle in angles:
        x, z = np.sin(beta) * np.sin(angle), np.sin(beta) * np.cos(angle)
        one = np.array([[np.cos(beta) - 1j * z, -1j * x], [-1j * x, np.cos(beta) + 1j * z]])
        out = np.kron(out, one)
    return out.astype(kind)


@lru_cache(maxsize=32)
def _flips(qubits: int, kind: str) -> Array:
    out: Array = (_distance(qubits) == 1).astype(kind)
    return out


def _distance(qubits: int) -> NDArray[np.int64]:
    """Bits in which two basis states differ."""
    states = np.arange(1 << qubits)
    out: NDArray[np.int64] = np.bitwise_count(states[:, None] ^ states).astype(np.int64)
    return out
