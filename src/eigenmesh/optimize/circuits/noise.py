"""QAOA on a device that errs: depolarising gates and misread bits, by trajectories, and what mends
it.

Every gate on two or more wires (a product of Z in the cost layer) is followed, with probability
`depolarising`, by a random Pauli on each of its wires; a measured bit is flipped with probability
`readout`. A trajectory is one draw of all errors, a pure state: the mean over trajectories is the
noisy circuit (a test compares with density matrices). Between two errors the gates commute, so
that a trajectory costs a few products of 2^n, not one a gate.

Energies are extrapolated to no noise by folding: C C^-1 C errs three times as often as C (Y. Li,
S. Benjamin, Phys. Rev. X 7, 2017; T. Giurgica-Tiron et al., arXiv:2005.10921). Misread bits are
undone in the mean by the inverse of each bit's confusion matrix (S. Bravyi et al., Phys. Rev. A
103, 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eigenmesh.mesh import MeshError
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import Angles
from eigenmesh.optimize.circuits.operations import DiagonalCost
from eigenmesh.optimize.encoding import Ints, walsh
from eigenmesh.optimize.statevector import State, phase, rotate_x, uniform

TRAJECTORIES = 64


@dataclass(frozen=True, slots=True)
class Noise:
    """depolarising: probability of an error after a gate on two or more wires. readout: probability
    that a measured bit is wrong; below one half, else nothing is known of it."""

    depolarising: float = 0.0
    readout: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.depolarising <= 1.0:
            raise MeshError("noise.depolarising", self.depolarising, "use a fraction from 0 to 1")
        if not 0.0 <= self.readout < 0.5:
            raise MeshError("noise.readout", self.readout, "use a fraction below 0.5")


def noisy_probabilities(
    cost: DiagonalCost,
    angles: Angles,
    noise: Noise,
    rng: np.random.Generator,
    *,
    fold: int = 1,
    trajectories: int = TRAJECTORIES,
) -> Array:
    """(trajectories, 2^n) before readout. fold: 1, 3, 5, ...: how often the circuit is gone
    through, every second time backwards."""
    if fold < 1 or fold % 2 == 0:
        raise MeshError("noise.fold", fold, "use an odd number")
    forward = list(zip(angles.gammas.tolist(), angles.betas.tolist(), strict=True))
    out = np.empty((trajectories, cost.values.size))
    for t in range(trajectories):
        state = uniform((cost.values.size,))
        for turn in range(fold):
            if turn % 2 == 0:
                for gamma, beta in forward:
                    state = rotate_x(_cost_layer(state, gamma, cost, noise, rng), beta)
            else:
                for gamma, beta in reversed(forward):
                    state = _cost_layer(rotate_x(state, -beta), -gamma, cost, noise, rng)
        out[t] = state.real**2 + state.imag**2
    return out


def draw(probabilities: Array, shots: int, noise: Noise, rng: np.random.Generator) -> Ints:
    """Basis states (shots,) as the device reads them, as many from each trajectory."""
    trajectories, states = probabilities.shape
    below = np.cumsum(probabilities, axis=1)
    which = np.arange(shots) % trajectories
    found = np.empty(shots, dtype=np.int64)
    for t in range(trajectories):
        mine = which == t
        found[mine] = np.searchsorted(below[t], rng.random(int(mine.sum())) * below[t, -1])
    found = np.minimum(found, states - 1)
    qubits = states.bit_length() - 1
    flips = rng.random((shots, qubits)) < noise.readout
    out: Ints = found ^ (flips @ (1 << np.arange(qubits - 1, -1, -1)))
    return out


def unconfused(costs: Array, noise: Noise) -> Array:
    """Costs (2^n,) whose mean over misread samples is that of `costs` over true ones."""
    out, size = np.array(costs, dtype=np.float64), costs.size
    keep, swap = 1.0 - noise.readout, -noise.readout
    step = 1
    while step < size:
        pairs = out.reshape(-1, 2, step)
        zero, one = pairs[:, 0], pairs[:, 1]
        out = np.stack((keep * zero + swap * one, swap * zero + keep * one), axis=1).ravel()
        out /= 1.0 - 2.0 * noise.readout
        step *= 2
    return out


def _cost_layer(
    state: State, gamma: float, cost: DiagonalCost, noise: Noise, rng: np.random.Generator
) -> State:
    wide = [(i, wires) for i, (wires, _) in enumerate(cost.terms) if len(wires) > 1]
    fails = [w for w in wide if rng.random() < noise.depolarising] if noise.depolarising else []
    if not fails:
        return phase(state, gamma, cost.values)
    # The terms in front of an error, that error, and so on.
    done = 0
    for i, wires in fails:
        state = phase(state, gamma, _part(cost, done, i + 1))
        state = _paulis(state, wires, cost.qubits, rng)
        done = i + 1
    if done < len(cost.terms):
        state = phase(state, gamma, _part(cost, done, len(cost.terms)))
    return state


def _part(cost: DiagonalCost, start: int, end: int) -> Array:
    """The sum of some of the terms, for every basis state."""
    coefficients = np.zeros(cost.values.size)
    top = cost.qubits - 1
    for wires, value in cost.terms[start:end]:
        coefficients[sum(1 << (top - w) for w in wires)] = value
    out: Array = walsh(coefficients) * coefficients.size
    return out


def _paulis(state: State, wires: tuple[int, ...], qubits: int, rng: np.random.Generator) -> State:
    """A random Pauli, which may be the identity, on each of the wires: all of them depolarised."""
    index = np.arange(state.size)
    for wire, pauli in zip(wires, rng.integers(0, 4, len(wires)).tolist(), strict=True):
        bit = 1 << (qubits - 1 - wire)
        if pauli in (1, 2):  # X, and Y but for a phase and the Z that follows
            state = state[index ^ bit]
        if pauli in (2, 3):
            state = np.where(index & bit, -state, state)
    return state
