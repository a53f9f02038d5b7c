"""The circuits that choose among discrete plans, as lists of gates.

`x_layers`: QAOA on Gray-coded rungs with the X mixer (E. Farhi, J. Goldstone, S. Gutmann, "A
quantum approximate optimization algorithm", arXiv:1411.4028).

`xy_layers`: the same on one-hot rungs, from a W state in every register, with an XY mixer on a
ring (S. Hadfield et al., "From the quantum approximate optimization algorithm to a quantum
alternating operator ansatz", Algorithms 12, 2019; Z. Wang et al., "XY mixers: analytical and
numerical results", Phys. Rev. A 101, 2020). A ring of four rungs is the square of two bits: with
four levels the samples are distributed as those of `x_layers`, at twice the qubits.

`hardware_efficient`: rotations and a ring of CZ, for VQE (A. Kandala et al., "Hardware-efficient
variational quantum eigensolver for small molecules and quantum magnets", Nature 549, 2017).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pennylane as qml

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import Angles
from eigenmesh.optimize.circuits.device import Gates
from eigenmesh.optimize.circuits.operations import CostPhase, DiagonalCost, MixerTilted, MixerX
from eigenmesh.optimize.encoding import Ints


def x_layers(cost: DiagonalCost, angles: Angles, turns: Array | None = None) -> Gates:
    """exp(-i gamma C), then exp(-i beta X) on every qubit, a layer each, from all-plus.

    turns: of RY on every qubit, from where to begin instead, with the mixer that keeps it
    (`operations.tilted`).
    """
    wires = range(cost.qubits)
    gates: list[qml.operation.Operation]
    if turns is None:
        gates = [qml.Hadamard(w) for w in wires]
    else:
        gates = [qml.RY(turn, wires=w) for w, turn in zip(wires, turns.tolist(), strict=True)]
    for gamma, beta in zip(angles.gammas.tolist(), angles.betas.tolist(), strict=True):
        gates.append(CostPhase(gamma, cost, wires=wires))
        if turns is None:
            gates.append(MixerX(beta, wires=wires))
        else:
            gates.append(MixerTilted(beta, turns, wires=wires))
    return gates


def xy_layers(cost: DiagonalCost, angles: Angles, levels: int) -> Gates:
    """The same in registers of `levels` qubits, of which one is set."""
    registers = [range(at, at + levels) for at in range(0, cost.qubits, levels)]
    gates: list[qml.operation.Operation] = []
    for register in registers:
        gates += _w_state(register)
    for gamma, beta in zip(angles.gammas.tolist(), angles.betas.tolist(), strict=True):
        gates.append(CostPhase(gamma, cost, wires=range(cost.qubits)))
        for register in registers:
            ring = list(zip(register, [*register[1:], register[0]], strict=True))
            # (XX + YY) / 2 swaps a set and an unset qubit. Even pairs first, then odd ones.
            gates += [qml.IsingXY(-2.0 * beta, wires=pair) for pair in ring[::2] + ring[1::2]]
    return gates


def hardware_efficient(turns: Array) -> Gates:
    """turns: (layers + 1, qubits) radians of RY; a ring of CZ between two layers."""
    layers, qubits = turns.shape
    gates: list[qml.operation.Operation] = []
    for layer, row in enumerate(turns.tolist()):
        gates += [qml.RY(turn, wires=w) for w, turn in enumerate(row)]
        if layer < layers - 1 and qubits > 1:
            pairs = range(qubits if qubits > 2 else 1)
            gates += [qml.CZ(wires=(w, (w + 1) % qubits)) for w in pairs]
    return gates


def one_hot(states: Ints, registers: int, levels: int) -> Ints:
    """Which rung is set in each register (N, registers), from basis states (N,)."""
    shifts = levels * np.arange(registers - 1, -1, -1, dtype=np.int64)
    words = (states[..., None] >> shifts) & ((1 << levels) - 1)
    out: Ints = levels - 1 - np.log2(np.maximum(words, 1)).astype(np.int64)
    return out


def _w_state(wires: range) -> Gates:
    """One excitation, equally on every wire: handed down the chain."""
    gates: list[qml.operation.Operation] = [qml.X(wires[0])]
    for done, (here, there) in enumerate(pairwise(wires)):
        stays = 1.0 / (len(wires) - done)
        gates.append(qml.CRY(2.0 * np.arccos(np.sqrt(stays)), wires=(here, there)))
        gates.append(qml.CNOT(wires=(there, here)))
    return gates
