"""The cost of every combination of a block's rungs, fast.

Given what each route gets back from the limits (a sum of one number a cluster), J is a sum over
the clusters of a function of that cluster's load alone. Each function is computed at NODES loads
and read off between them: a few additions instead of a dozen powers.

Loads that rise and fall together, as those of one route do, are read at the same place of their
tables. So the tables of a block's front half are added up first, for every combination of its
rungs, and those of its back half; a combination of both takes one reading in each, however many
clusters there are.

What is read is off by less than 1e-3 of the table's standard deviation (tested); it steers a
circuit, and whatever the circuit proposes is judged by J itself.
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
NODES = 64
_CHUNK = 2**15
"""Combinations at a time: what is computed of them stays in the cache."""

Single = NDArray[np.float32]


def block_costs(objective: Objective, w: Array, block: Sequence[int], rungs: Ints) -> Array:
    """J (levels^len(block),) of every basis state of the block, the other clusters held at
    `rungs`."""
    levels, half = objective.levels, len(block) // 2
    if levels ** len(block) <= EXACT or not objective.separable:
        return objective.diagonal(w, block, rungs)
    order = gray_inverse(np.arange(levels))
    dense = np.zeros((len(objective.routes), len(objective.clusters)))
    dense[objective.by_route.index, objective.by_cluster.index] = w
    held = objective.lowest_equal(rungs)
    offered, demands = objective.offered(w), objective.demands_at(w)
    blocked = objective.first_rejections(offered)
    spilled = (objective.policy.spill * objective.factors)[:, None]
    scale = (objective.omega / (objective.factors * objective.total))[:, None, None]
    # What comes back to each route: (scenarios, levels, routes) from each cluster of the block.
    parts = [blocked[:, k, order, None] * (dense[:, k] * demands) for k in block]
    others = np.setdiff1d(np.arange(len(objective.clusters)), block)
    fixed = (blocked[:, others, held[others]] @ dense[:, others].T)[:, None] * demands
    churn = objective.rung_churn(held, block)[:, None, order]
    out = (_sums(churn[:half]).T + _sums(churn[half:])).astype(np.float32)
    constant = float(objective.weight_churn(w))
    for share, members in _together(dense):
        # A member's load is what is offered to it, and a multiple of what comes back by this share.
        back = [part @ share for part in parts]
        places = _sums([fixed @ share, *back[:half]]), _sums(back[half:])
        least = [place.min(axis=-1, keepdims=True) for place in places]
        width = sum(np.ptp(place, axis=-1, keepdims=True) for place in places)
        nodes = sum(least) + width * np.linspace(0.0, 1.0, NODES)
        costs: dict[int, Array] = {}
        for k in members:
            load = offered[:, k, None] + dense[:, k].sum() * spilled * nodes
            own = order if k in block else held[k, None]
            cost = objective.cost_of(k, load[:, None], objective.ladder[k, own, None])
            costs[k] = scale * cost
        nothing = np.zeros((len(fixed), levels, NODES))
        kept = sum((costs[k] for k in members if k not in block), nothing[:, :1])
        read = [costs.get(k, nothing) for k in block]
        tables = _sums([kept, *read[:half]]), _sums(read[half:])
        unit = np.maximum(width, 1e-300) / (NODES - 1)
        first, second = ((p - low) / unit for p, low in zip(places, least, strict=True))
        for s in range(len(fixed)):
            constant += _add(out, (first[s], second[s]), (tables[0][s], tables[1][s]))
    return np.add(out.ravel(), constant, dtype=np.float64)


def _together(dense: Array) -> list[tuple[Array, list[int]]]:
    """Clusters on which what comes back to the routes weighs in the same proportions: these
    (routes,), and the clusters. dense: weights (routes, clusters)."""
    shares = dense / np.maximum(dense.sum(axis=0), 1e-300)
    _, first, group = np.unique(shares.round(9), axis=1, return_index=True, return_inverse=True)
    return [
        (shares[:, k], np.flatnonzero(group == number).tolist()) for number, k in enumerate(first)
    ]


def _sums(parts: Sequence[Array] | Array) -> Array:
    """One rung of each part (scenarios, rungs, ...) and their sum, for every combination: the same
    shape, the first part's rung changing slowest."""
    out = parts[0]
    for part in parts[1:]:
        out = (out[:, :, None] + part[:, None]).reshape(len(out), -1, *out.shape[2:])
    return out


def _add(out: Single, places: tuple[Array, Array], tables: tuple[Array, Array]) -> float:
    """Adds what is read off a table for the front half and one for the back half to out (front,
    back), but for a constant, which it returns: single precision is for the differences.

    places: (combinations,) of each half, in units of nodes; both are read where the two add up to.
    tables: (combinations, NODES) of each half.
    """
    first, second = (place.astype(np.float32) for place in places)
    constant, read = 0.0, []
    for half, table in enumerate(tables):
        constant += float(table[0, 0])
        flat = (table - table[0, 0]).astype(np.float32)
        if flat.any():
            rise = np.diff(flat, axis=-1, append=flat[:, -1:])
            row = np.arange(len(table), dtype=np.int32) * NODES
            read.append((half, row, flat.ravel(), rise.ravel()))
    if not read:
        return constant
    rows = max(1, _CHUNK // second.size)
    for start in range(0, len(out), rows):
        part = slice(start, start + rows)
        rest = first[part, None] + second
        cell = rest.astype(np.int32)
        rest -= cell
        for half, row, flat, rise in read:
            at = cell + (row if half else row[part, None])
            out[part] += flat.take(at, mode="clip")
            more = rise.take(at, mode="clip")
            more *= rest
            out[part] += more
    return constant
