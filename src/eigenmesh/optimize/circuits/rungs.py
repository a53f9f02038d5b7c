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

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Rungs
from eigenmesh.optimize.circuits.device import Device
from eigenmesh.optimize.circuits.sampling import Samples, check_fits, circuit_qubits, sample
from eigenmesh.optimize.classical.rungs import polish
from eigenmesh.optimize.decomposition import Task, lowest, sweep
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
    pool: list[dict[int, Device]] = [{} for _ in range(min(settings.pool, blocks))]
    circuits = evaluations = gradients = most_terms = 0
    ratios: list[float] = []
    used = ""

    def run(table: Array, here: int, number: int, place: int) -> Samples:
        """A circuit of this cost on one device of the pool."""
        qubits = circuit_qubits(bits(table.size) // bits(levels), levels, settings)
        if qubits not in pool[place]:
            pool[place][qubits] = Device(settings.device, qubits, seed + place)
        return sample(table, levels, here, settings, seed + number, pool[place][qubits])

    def drawn(tasks: list[Task], runs: Iterable[Samples]) -> list[Ints]:
        """States that the circuits propose, and those there are."""
        nonlocal circuits, gradients, most_terms, used
        out = []
        for (_, here), found in zip(tasks, runs, strict=True):
            circuits += 1
            gradients += found.evaluations
            most_terms = max(most_terms, found.terms)
            used = found.angles
            out.append(np.unique(np.append(found.states, here)))
        return out

    if blocks > 1:
        walk = RungWalk(objective, w, start)
        # Threads: a device that is elsewhere is waited for. Simulators gain nothing from them
        # (bench/results/optimiser_noise.md).
        with ThreadPoolExecutor(len(pool)) as executor:

            def best_drawn(tasks: list[Task]) -> list[int]:
                numbers, places = range(circuits, circuits + len(tasks)), range(len(tasks))
                tables, standing = [t for t, _ in tasks], [here for _, here in tasks]
                runs = executor.map(run, tables, standing, numbers, places)
                states = drawn(tasks, runs)
                found = [int(s[t[s].argmin()]) for t, s in zip(tables, states, strict=True)]
                for table, best in zip(tables, found, strict=True):
                    ratios.append(float((table.max() - table[best]) / np.ptp(table)))
                return found

            swept = sweep(walk, lowest, most, together=best_drawn, at_once=len(pool))
        evaluations = swept.evaluations + sweep(walk, lowest, 1, most=1).evaluations
        rungs = walk.rungs
    else:
        table = block_costs(objective, w, range(clusters), start)
        evaluations = table.size
        low, high = float(table.min()), float(table.max())
        rungs = start
        if high - low > 1e-12 * abs(high):  # otherwise every rung is as good
            task = (table, int(state_of(start, levels)))
            [states] = drawn([task], [run(*task, 0, 0)])
            tried = rungs_of(states, clusters, levels)
            best = int(objective.evaluate_rungs(w, tried).argmin())
            ratios.append((high - float(table[states[best]])) / (high - low))
            rungs = tried[best]
        rungs = polish(objective, w, rungs)
    detail: dict[str, float | str] = {"circuits": circuits, "evaluations": evaluations}
    if devices := pool[0]:
        detail |= devices[max(devices)].detail
        if len(pool) > 1:
            detail["devices"] = len(pool)
        detail |= {"shots": settings.shots, "blocks": blocks}
        detail["approximation_ratio"] = float(np.mean(ratios))
        if used:
            detail |= {"layers": settings.layers, "angles": used}
        if most_terms:
            detail["terms"] = most_terms
        if gradients:
            detail["gradients"] = gradients
    return Rungs(rungs, detail)
