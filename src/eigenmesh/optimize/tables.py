"""The cost of every combination of a block's rungs, fast.

Given what each route gets back from the limits (a sum of one number a cluster), J is a sum over
the clusters of a function of that cluster's load alone. Each function is computed at NODES loads
and read off between them: a combination then costs a few additions a cluster instead of a dozen
powers. What is read is off by less than 1e-3 of the table's standard deviation (tested); it steers
a circuit, and whatever the circuit proposes is judged by J itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints, gray_inverse
from eigenmesh.optimize.objective import Objective

EXACT = 2**10
"""Combinations up to which J itself is as fast."""
NODES = 128
_CHUNK = 2**15
"""Combinations at a time: what is computed of them stays in the cache."""

Single = NDArray[np.float32]


def block_costs(objective: Objective, w: Array, block: Sequence[int], rungs: Ints) -> Array:
    """J (levels^len(block),) of every basis state of the block, the other clusters held at
    `rungs`."""
    levels, policy = objective.levels, objective.policy
    if levels ** len(block) <= EXACT or not objective.separable:
        return objective.diagonal(w, block, rungs)
    every, scenarios = np.arange(len(objective.clusters)), len(objective.factors)
    order = gray_inverse(np.arange(levels))
    dense = np.zeros((len(objective.routes), len(every)))
    dense[objective.by_route.index, objective.by_cluster.index] = w
    held = objective.lowest_equal(rungs)
    offered, demands = objective.offered(w), objective.demands_at(w)
    blocked = objective.first_rejections(offered)
    # (scenarios, routes, levels) of a cluster's part in what comes back, in the Gray code's order.
    parts = [(dense[:, k] * demands)[:, None] * blocked[:, k][:, None, order] for k in block]
    fixed = blocked[:, every, held].copy()
    fixed[:, list(block)] = 0.0
    back = ((fixed @ dense.T) * demands)[:, :, None]
    for part in parts:
        back = (back[..., :, None] + part[..., None, :]).reshape(*back.shape[:2], -1)
    back = back.astype(np.float32)
    spilled = policy.spill * objective.factors
    states = back.shape[-1]
    out = np.zeros(states, dtype=np.float32)
    scale = objective.omega / (objective.factors * objective.total)
    for k in every.tolist():
        place = list(block).index(k) if k in block else None
        own = (
            objective.ladder[k, order] if place is not None else objective.ladder[k, held[k], None]
        )
        right = states if place is None else levels ** (len(block) - 1 - place)
        for s in range(scenarios):
            load = (
                np.float32(offered[s, k]) + (spilled[s] * dense[:, k]).astype(np.float32) @ back[s]
            )
            low, high = float(load.min()), float(load.max())
            nodes = np.linspace(low, max(high, low + 1e-6), NODES)
            cost = (scale[s] * objective.cost_of(k, nodes, own[:, None])).astype(np.float32)
            load -= np.float32(low)
            load *= np.float32((NODES - 1) / (nodes[-1] - nodes[0]))
            _add(out, load, cost, right)
    churn = objective.rung_churn(held, block)
    for number, moves in enumerate(churn):
        shape = (levels**number, levels, -1)
        out.reshape(shape)[...] += moves[order].astype(np.float32)[:, None]
    return out.astype(np.float64) + objective.weight_churn(w)


def _add(out: Single, at: Single, cost: Single, right: int) -> None:
    """Adds the cost (rungs, NODES) read at `at` in units of nodes.

    right: states from one rung of this cluster to its next.
    """
    rungs = len(cost)
    # One flat table for all rungs, and its rise to the next node.
    flat = cost.ravel()
    rise = np.diff(cost, axis=-1, append=cost[:, -1:]).ravel()
    size = max(_CHUNK, right * rungs)
    step = np.repeat(np.arange(rungs, dtype=np.int32) * NODES, right)
    for start in range(0, out.size, size):
        part = slice(start, start + size)
        cell = at[part].astype(np.int32)
        rest = at[part] - cell
        cell = (cell.reshape(-1, step.size) + step).ravel() if rungs > 1 else cell
        out[part] += flat.take(cell, mode="clip")
        rest *= rise.take(cell, mode="clip")
        out[part] += rest
