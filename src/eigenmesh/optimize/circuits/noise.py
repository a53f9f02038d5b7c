"""QAOA on a device that errs: depolarising gates and misread bits, by trajectories, and what mends
it.

Every two-qubit gate is followed, with probability `depolarising`, by a depolarised pair of qubits
(one of the 16 Paulis at random); a measured bit is flipped with probability `readout`. A product of
k Z's is k - 1 CNOT, a rotation, and the CNOT again: many terms of high order make a noisy circuit.
Gates on one qubit are perfect, as they nearly are.

A trajectory is one draw of all errors; the mean over trajectories is the noisy circuit (a test
compares with density matrices). Errors are not applied where they happen: a Pauli passes a CNOT as
another Pauli and a rotation by turning its sign, so that a trajectory is the circuit with some
angles negated and a last Pauli that flips what is read (a Pauli frame: E. Knill, Nature 434, 2005).

Energies are extrapolated to no noise by folding: C C^-1 C errs three times as often as C (Y. Li,
S. Benjamin, Phys. Rev. X 7, 2017; T. Giurgica-Tiron et al., arXiv:2005.10921). Misread bits are
undone in the mean by the inverse of each bit's confusion matrix (S. Bravyi et al., Phys. Rev. A
103, 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

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
    """depolarising: probability that a two-qubit gate depolarises its qubits. readout: probability
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
    frame = _Frame(cost.qubits, trajectories, noise.depolarising, rng)
    state = uniform((trajectories, cost.values.size))
    for turn in range(fold):
        if turn % 2 == 0:
            for gamma, beta in forward:
                state = frame.mix(frame.price(state, gamma, cost), beta)
        else:
            for gamma, beta in reversed(forward):
                state = frame.price(frame.mix(state, -beta), -gamma, cost)
    flipped = np.arange(cost.values.size) ^ frame.x[:, None]
    out: Array = np.take_along_axis(state.real**2 + state.imag**2, flipped, axis=1)
    return out


def two_qubit_gates(cost: DiagonalCost) -> int:
    """Of one cost layer."""
    return sum(2 * (len(wires) - 1) for wires, _ in cost.terms)


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


class _Frame:
    """The Pauli that each trajectory has gathered: bit n - 1 - w of x and of z says whether there
    is an X and a Z on wire w."""

    def __init__(self, qubits: int, count: int, error: float, rng: np.random.Generator) -> None:
        self.x = np.zeros(count, dtype=np.int64)
        self._z = np.zeros(count, dtype=np.int64)
        self._top, self._error, self._rng = qubits - 1, error, rng

    def price(self, state: State, gamma: float, cost: DiagonalCost) -> State:
        """A cost layer: every term with the sign that it has by then."""
        if not self._error:
            return phase(state, gamma, cost.values)
        turned = np.zeros((self.x.size, len(cost.terms)), dtype=bool)
        masks = np.zeros(len(cost.terms), dtype=np.int64)
        for i, (wires, _) in enumerate(cost.terms):
            bits = [self._top - w for w in wires]
            masks[i] = sum(1 << b for b in bits)
            chain = list(pairwise(bits))
            for control, target in chain:
                self._cnot(control, target)
            turned[:, i] = self.x >> bits[-1] & 1
            for control, target in reversed(chain):
                self._cnot(control, target)
        out = np.empty_like(state)
        for t, signs in enumerate(turned):
            costs = cost.values
            if signs.any():
                coefficients = cost.coefficients.copy()
                coefficients[masks[signs]] *= -1.0
                costs = walsh(coefficients) * coefficients.size
            out[t] = phase(state[t], gamma, costs)
        return out

    def mix(self, state: State, beta: float) -> State:
        """A mixer: Z X Z = -X, on the qubits where there is a Z."""
        odd = np.bitwise_count(self._z[:, None] & np.arange(state.shape[-1])) & 1
        signs = 1.0 - 2.0 * odd
        return np.asarray(signs * rotate_x(signs * state, beta))

    def _cnot(self, control: int, target: int) -> None:
        self.x ^= (self.x >> control & 1) << target
        self._z ^= (self._z >> target & 1) << control
        (hit,) = np.nonzero(self._rng.random(self.x.size) < self._error)
        if hit.size:
            paulis = self._rng.integers(0, 16, hit.size)
            self.x[hit] ^= (paulis & 1) << control | (paulis >> 1 & 1) << target
            self._z[hit] ^= (paulis >> 2 & 1) << control | (paulis >> 3 & 1) << target
