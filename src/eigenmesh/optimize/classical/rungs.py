"""Rungs for fixed weights, classically."""

from __future__ import annotations

import time

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Rungs
from eigenmesh.optimize.decomposition import block_size, lowest, search, sweep
from eigenmesh.optimize.encoding import Ints, bits, rungs_of
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.walk import RungWalk

EXHAUSTIVE_LIMIT = 4096
"""Combinations up to which all are tried."""
BLOCK = 1024
"""Combinations of a block."""
KICKS = 4
SECONDS = 2.0
"""Of one search over blocks: large meshes leave time for the rest of the tick."""


def exhaustive(objective: Objective, w: Array) -> Rungs:
    """The optimum, by trying every combination."""
    clusters = len(objective.clusters)
    values = objective.diagonal(w, range(clusters), objective.initial_rungs)
    best = int(values.argmin())
    return Rungs(rungs_of(best, clusters, objective.levels), {"evaluations": len(values)})


def coordinate(
    objective: Objective, w: Array, start: Ints, *, restarts: int = 8, seed: int = 0
) -> Rungs:
    """Best of several coordinate descents: from `start`, and from random rungs.

    All descents go in step, one cluster at a time, so that each move is one batched evaluation.
    """
    clusters, levels = len(objective.clusters), objective.levels
    rng = np.random.default_rng(seed)
    state = np.vstack((start, rng.integers(0, levels, (restarts, clusters))))
    values = objective.evaluate_rungs(w, state)
    evaluations = len(state)
    every = np.arange(len(state))
    for _ in range(20):
        before = values.copy()
        for k in range(clusters):
            moves = np.repeat(state[:, None, :], levels, axis=1)
            moves[:, :, k] = np.arange(levels)
            found = objective.evaluate_rungs(w, moves.reshape(-1, clusters))
            found = found.reshape(len(state), levels)
            evaluations += found.size
            choice = found.argmin(axis=1)
            # Strictly better only: an equal rung is not worth a change.
            better = found[every, choice] < values
            state[better, k] = choice[better]
            values = np.where(better, found[every, choice], values)
        if np.array_equal(before, values):
            break
    best = int(values.argmin())
    return Rungs(state[best], {"evaluations": evaluations, "restarts": restarts})


def blocks(
    objective: Objective, w: Array, start: Ints, *, seconds: float = SECONDS, seed: int = 0
) -> Rungs:
    """A mesh of few clusters as one block, any other in blocks of a few, one after the other and
    again after kicks; every combination of a block is tried. Ends after about `seconds` of
    processor time."""
    walk, levels = RungWalk(objective, w, start), objective.levels
    size = block_size(len(start), levels, max(1, bits(BLOCK) // max(1, bits(levels))))
    end = time.process_time() + seconds

    def in_time() -> bool:
        return time.process_time() < end

    found = search(walk, lowest, size, kicks=KICKS, seed=seed, in_time=in_time)
    # The tables may be a little wrong: where one of them missed a step, J finds it.
    more = sweep(walk, lowest, 1, most=1, in_time=in_time)
    evaluations = found.evaluations + more.evaluations
    return Rungs(walk.rungs, {"evaluations": evaluations, "blocks": found.blocks})


def polish(objective: Objective, w: Array, rungs: Ints) -> Ints:
    """One greedy pass: every cluster once moves to its best rung, the others held."""
    rungs = rungs.copy()
    for k in range(len(objective.clusters)):
        moves = np.tile(rungs, (objective.levels, 1))
        moves[:, k] = np.arange(objective.levels)
        found = objective.evaluate_rungs(w, moves)
        if found.min() < found[rungs[k]]:
            rungs[k] = int(found.argmin())
    return rungs
