"""Rungs for fixed weights, classically."""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Rungs
from eigenmesh.optimize.decomposition import lowest, sweep
from eigenmesh.optimize.encoding import Ints, bits, rungs_of
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.walk import RungWalk

EXHAUSTIVE_LIMIT = 4096
"""Combinations up to which all are tried."""
BLOCK = 1024
"""Combinations of a block."""


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


def blocks(objective: Objective, w: Array, start: Ints) -> Rungs:
    """Blocks of a few clusters tried exhaustively, one after the other; for meshes of any size
    whose costs are separable."""
    walk = RungWalk(objective, w, start)
    size = max(1, bits(BLOCK) // max(1, bits(objective.levels)))
    found = sweep(walk, lowest, size)
    return Rungs(walk.rungs, {"evaluations": found.evaluations, "blocks": found.blocks})


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
