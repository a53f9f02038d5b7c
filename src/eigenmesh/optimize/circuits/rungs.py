"""Breaker rungs for fixed weights by a circuit (`sampling`), block by block.

Rungs are Gray-coded (`encoding`) and the cost is the true J of every combination of a block's
rungs: any order of terms, nothing fitted to a quadratic form. The samples are scored by J itself,
and the best one gets one greedy pass.

More clusters than a circuit holds are cut into blocks, each solved with the others held, until a
sweep over all blocks improves nothing (`decomposition`, `walk`).

To know J's diagonal is to know its minimum: on a simulator the circuit cannot beat `exhaustive`,
and on any device the diagonal costs 2^n evaluations of J. The samples are what hardware would give.
"""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Rungs
from eigenmesh.optimize.circuits.device import Device
from eigenmesh.optimize.circuits.sampling import check_fits, circuit_qubits, sample
from eigenmesh.optimize.classical.rungs import polish
from eigenmesh.optimize.decomposition import lowest, sweep
from eigenmesh.optimize.encoding import Ints, bits, rungs_of, state_of
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings
from eigenmesh.optimize.tables import block_costs
from eigenmesh.optimize.walk import RungWalk


def sampled_rungs(
    objective: Objective, w: Array, start: Ints, settings: CircuitSettings, seed: int = 0
) -> Rungs:
    """Good rungs, never worse than `start` under J.

    Raises MeshError if one cluster's ladder does not fit the circuit, if no angles were trained
    for its depth, or if its device is not installed.
    """
    clusters, levels = len(objective.clusters), objective.levels
    if not bits(levels):
        return Rungs(start, {"qubits": 0})
    check_fits(levels, settings)
    most = settings.max_qubits // circuit_qubits(1, levels, settings)
    blocks = -(-clusters // most)
    devices: dict[int, Device] = {}
    circuits = evaluations = gradients = most_terms = 0
    ratios: list[float] = []
    used = ""

    def drawn(table: Array, here: int) -> Ints:
        """States that a circuit of this cost proposes, and the one there is."""
        nonlocal circuits, gradients, most_terms, used
        qubits = circuit_qubits(bits(table.size) // bits(levels), levels, settings)
        if qubits not in devices:
            devices[qubits] = Device(settings.device, qubits, seed)
        found = sample(table, levels, here, settings, seed + circuits, devices[qubits])
        circuits += 1
        gradients += found.evaluations
        most_terms = max(most_terms, found.terms)
        used = found.angles
        return np.unique(np.append(found.states, here))

    def best_drawn(table: Array, here: int) -> int:
        states = drawn(table, here)
        best = int(states[table[states].argmin()])
        ratios.append(float((table.max() - table[best]) / np.ptp(table)))
        return best

    if blocks > 1:
        walk = RungWalk(objective, w, start)
        evaluations = sweep(walk, best_drawn, most).evaluations
        evaluations += sweep(walk, lowest, 1, most=1).evaluations
        rungs = walk.rungs
    else:
        table = block_costs(objective, w, range(clusters), start)
        evaluations = table.size
        low, high = float(table.min()), float(table.max())
        rungs = start
        if high - low > 1e-12 * abs(high):  # otherwise every rung is as good
            states = drawn(table, int(state_of(start, levels)))
            tried = rungs_of(states, clusters, levels)
            best = int(objective.evaluate_rungs(w, tried).argmin())
            ratios.append((high - float(table[states[best]])) / (high - low))
            rungs = tried[best]
        rungs = polish(objective, w, rungs)
    detail: dict[str, float | str] = {"circuits": circuits, "evaluations": evaluations}
    if devices:
        detail |= devices[max(devices)].detail
        detail |= {"shots": settings.shots, "blocks": blocks}
        detail["approximation_ratio"] = float(np.mean(ratios))
        if used:
            detail |= {"layers": settings.layers, "angles": used}
        if most_terms:
            detail["terms"] = most_terms
        if gradients:
            detail["gradients"] = gradients
    return Rungs(rungs, detail)
