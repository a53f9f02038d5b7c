"""Breaker rungs for fixed weights by QAOA.

Rungs are Gray-coded (`encoding`), the mixer is X on every qubit, and the cost layer is the true J
of every combination of rungs, standardised, as RZ, IsingZZ and MultiRZ gates from its
Walsh-Hadamard coefficients: any order of terms, nothing fitted to a quadratic form. The angles are
shipped (`angles`); nothing is trained here. The samples are scored by J itself, and the best one
gets one greedy pass. (E. Farhi et al., "A quantum approximate optimization algorithm",
arXiv:1411.4028; S. Hadfield et al., "From the quantum approximate optimization algorithm to a
quantum alternating operator ansatz", Algorithms 12, 2019.)

More clusters than a circuit holds are cut into blocks, each solved with the others held, until a
sweep over all blocks improves nothing.

To know J's diagonal is to know its minimum: on a simulator the circuit cannot beat `exhaustive`,
and on any device the diagonal costs 2^n evaluations of J. The samples are what hardware would give.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pennylane as qml

from eigenmesh.mesh import MeshError
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import Angles, load
from eigenmesh.optimize.answers import Rungs
from eigenmesh.optimize.circuits.device import Device, Gates
from eigenmesh.optimize.classical.rungs import polish
from eigenmesh.optimize.decomposition import partition
from eigenmesh.optimize.encoding import Ints, bits, rungs_of, state_of, walsh
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings
from eigenmesh.optimize.training import standardised

SWEEPS = 3
KEPT_VARIANCE = 0.9999
"""Share of the cost's variance that the gates carry: the many smallest terms are left out."""

Terms = Sequence[tuple[tuple[int, ...], float]]


def terms_of(costs: Array, kept: float = KEPT_VARIANCE) -> Terms:
    """Wires and coefficient of each Z product of standardised costs, the largest first."""
    coefficients = walsh(costs)
    order = np.argsort(-np.abs(coefficients[1:]), kind="stable") + 1
    share = np.cumsum(coefficients[order] ** 2)
    order = order[: int(np.searchsorted(share, kept * share[-1])) + 1]
    qubits = costs.size.bit_length() - 1
    return [
        (
            tuple(w for w in range(qubits) if subset >> (qubits - 1 - w) & 1),
            float(coefficients[subset]),
        )
        for subset in order.tolist()
    ]


def qaoa_gates(terms: Terms, qubits: int, angles: Angles) -> Gates:
    """exp(-i gamma C), then exp(-i beta X) on every qubit, a layer each, from all-plus."""
    gates: list[qml.operation.Operation] = [qml.Hadamard(w) for w in range(qubits)]
    for gamma, beta in zip(angles.gammas.tolist(), angles.betas.tolist(), strict=True):
        for wires, coefficient in terms:
            turn = 2.0 * gamma * coefficient
            if len(wires) == 1:
                gates.append(qml.RZ(turn, wires=wires))
            elif len(wires) == 2:
                gates.append(qml.IsingZZ(turn, wires=wires))
            else:
                gates.append(qml.MultiRZ(turn, wires=wires))
        gates += [qml.RX(2.0 * beta, wires=w) for w in range(qubits)]
    return gates


def qaoa(
    objective: Objective, w: Array, start: Ints, settings: CircuitSettings, seed: int = 0
) -> Rungs:
    """Good rungs, never worse than `start` under J.

    Raises MeshError if one cluster's ladder does not fit the circuit, if no angles were trained
    for its depth, or if its device is not installed.
    """
    clusters, width = len(objective.clusters), bits(objective.levels)
    if width == 0:
        return Rungs(start, {"qubits": 0})
    if width > settings.max_qubits:
        raise MeshError(
            "circuits.max_qubits",
            settings.max_qubits,
            f"use {width} or more: a ladder of {objective.levels} rungs needs as many",
        )
    angles = load(settings.layers)
    blocks = partition(objective.coupling(w), min(clusters, settings.max_qubits // width))
    rungs = start.copy()
    circuits = evaluations = most_terms = 0
    ratios: list[float] = []
    device: Device | None = None
    for _ in range(SWEEPS):
        improved = False
        for block in blocks:
            table = objective.diagonal(w, block, rungs)
            evaluations += table.size
            low, high = float(table.min()), float(table.max())
            if high - low <= 1e-12 * abs(high):
                continue  # every rung is as good
            qubits = width * len(block)
            device = Device(settings.device, qubits, seed + circuits)
            circuits += 1
            terms = terms_of(standardised(table))
            most_terms = max(most_terms, len(terms))
            gates = qaoa_gates(terms, qubits, angles)
            states = device.samples(gates, qubits, settings.shots)
            best = int(states[table[states].argmin()])
            ratios.append((high - float(table[best])) / (high - low))
            if table[best] < table[int(state_of(rungs[block], objective.levels))]:
                rungs[block] = rungs_of(best, len(block), objective.levels)
                improved = True
        if not improved or len(blocks) == 1:
            break
    rungs = polish(objective, w, rungs)
    detail: dict[str, float | str] = {"circuits": circuits, "evaluations": evaluations}
    if device is not None:
        detail |= device.detail
        detail |= {
            "layers": settings.layers,
            "shots": settings.shots,
            "terms": most_terms,
            "blocks": len(blocks),
            "qubits": width * max(len(block) for block in blocks),
            "approximation_ratio": float(np.mean(ratios)),
        }
    return Rungs(rungs, detail)
