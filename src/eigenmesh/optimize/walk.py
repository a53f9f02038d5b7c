"""The rungs of a whole mesh, changed block by block at the price of the block.

What a block's rungs turn away goes to the routes that use the block, and from there to the clusters
of those routes; nothing else changes. A `RungWalk` knows what every route gets back and what every
cluster carries at the rungs where it stands, so that the costs of a block's combinations take the
block and its routes, not the mesh. They are read off small tables (one a cluster and rung, by load)
computed once, and may be a little wrong; whether a move is made is decided by J itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints, gray_inverse, rungs_of, state_of
from eigenmesh.optimize.objective import Objective

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NODES = 24
"""Loads at which a cluster's cost is tabulated."""


class RungWalk:
    """J of one w (edges) as a function of the rungs, and where it stands. Only where the clusters'
    costs are `separable`."""

    def __init__(self, objective: Objective, w: Array, rungs: Ints) -> None:
        self.objective = objective
        self.levels = objective.levels
        self._w = w
        self._offered = objective.offered(w)
        self._demands = objective.demands_at(w)
        self._blocked = objective.first_rejections(self._offered)
        self._spill = objective.policy.spill * objective.factors[:, None]
        self._churn = objective.rung_churn(rungs, range(len(rungs)))
        self._tabulate()
        self.restart(rungs)

    def restart(self, rungs: Ints) -> None:
        """Stands at these rungs from now on."""
        self.rungs: Ints = self.objective.lowest_equal(rungs)
        rejected = self._blocked[:, np.arange(len(rungs)), self.rungs]
        self._load = self._offered + self._spill * self._back(rejected)

    def coupling(self) -> csr_array:
        """Of clusters through shared routes (clusters, clusters)."""
        return self.objective.coupling(self._w)

    def value(self) -> float:
        """J where it stands."""
        return float(self.objective.evaluate_rungs(self._w, self.rungs[None])[0])

    def changes(self, block: Sequence[int]) -> Array:
        """(levels^len(block),): how much J changes with each basis state of the block, nearly: by
        the tables for the block's own clusters, by their marginal costs for its neighbours."""
        near, count = _Near(self.objective, self._w, self._demands, block), len(block)
        order, chosen = gray_inverse(np.arange(self.levels)), list(block)
        # (scenarios, block, levels) of each cluster's requests that come back, more than now.
        held = self._blocked[:, chosen, self.rungs[chosen]]
        more = self._spill[:, None] * (self._blocked[:, chosen][..., order] - held[..., None])
        own = near.shares @ near.matrix[near.block].T
        slopes = self._slopes(near.clusters)
        slopes[:, near.block] = 0.0
        alone = ((slopes @ near.matrix @ near.shares.T)[..., None] * more).sum(axis=0)
        alone += self._churn[chosen][:, order]
        shapes = [[self.levels if i == j else 1 for i in range(count)] for j in range(count)]
        out = np.zeros((1,) * count)
        for i, k in enumerate(chosen):
            rungs = (order * NODES).reshape(shapes[i])
            out = out + alone[i].reshape(shapes[i])
            for s in range(len(more)):
                at = np.full((1,) * count, self._load[s, k] - self._offered[s, k])
                for j in range(count):
                    if own[j, i]:
                        at = at + (own[j, i] * more[s, j]).reshape(shapes[j])
                at = at * self._per_node[s, k]
                cell = np.minimum(at.astype(np.int64), NODES - 2)
                at = at - cell
                cell = cell + rungs
                out = out + self._table[s, k].take(cell)
                out += at * self._rise[s, k].take(cell)
        flat = np.broadcast_to(out, (self.levels,) * count).ravel()
        changes: Array = flat - flat[int(state_of(self.rungs[chosen], self.levels))]
        return changes

    def move(self, block: Sequence[int], state: int) -> bool:
        """Moves the block to the basis state if that lowers J, and says whether it did."""
        objective, chosen = self.objective, list(block)
        near = _Near(objective, self._w, self._demands, block)
        rungs = self.rungs.copy()
        rungs[chosen] = rungs_of(state, len(block), self.levels)
        rungs = objective.lowest_equal(rungs)
        here = self._blocked[:, chosen, self.rungs[chosen]]
        there = self._blocked[:, chosen, rungs[chosen]]
        back = (there - here) @ near.shares
        load = self._load[:, near.clusters] + self._spill * (back @ near.matrix.T)
        limits = np.stack([objective.limits_at(r)[near.clusters] for r in (self.rungs, rungs)])
        loads = np.stack((self._load[:, near.clusters], load))
        cost = objective.queues.cost(loads, limits[:, None], near.clusters.tolist()).sum(axis=-1)
        change = float((cost[1] - cost[0]) @ (objective.omega / objective.factors))
        change /= objective.total
        change += float(self._churn[chosen, rungs[chosen]].sum())
        change -= float(self._churn[chosen, self.rungs[chosen]].sum())
        if change >= 0.0:
            return False
        self.rungs = rungs
        self._load[:, near.clusters] = load
        return True

    def _back(self, rejected: Array) -> Array:
        """(scenarios, clusters) that come back where these fractions (the same) are rejected."""
        routes, clusters = self.objective.by_route, self.objective.by_cluster
        amounts = routes.sum(clusters.spread(rejected) * self._w) * self._demands
        return clusters.sum(routes.spread(amounts) * self._w)

    def _slopes(self, clusters: Ints) -> Array:
        """(scenarios, clusters) of J by load, where it stands."""
        per_node = self._per_node[:, clusters]
        at = (self._load[:, clusters] - self._offered[:, clusters]) * per_node
        cell = np.clip(at.astype(np.int64), 0, NODES - 2)
        rise = self._rise[:, clusters, self.rungs[clusters]]
        out: Array = np.take_along_axis(rise, cell[..., None], axis=-1)[..., 0] * per_node
        return out

    def _tabulate(self) -> None:
        """Every cluster's part of J on each rung, from no rejections to as many as can be."""
        objective = self.objective
        most = self._spill * self._back(self._blocked.max(axis=-1))
        most = np.maximum(most, 1e-9 * objective.capacity)
        part = np.linspace(0.0, 1.0, NODES)[:, None, None]
        scale = objective.omega / (objective.factors * objective.total)
        cost = objective.queues.cost(
            (self._offered + part * most)[None], objective.ladder.T[:, None, None, :]
        )
        table = np.transpose(cost * scale[:, None], (2, 3, 0, 1))
        self._per_node = (NODES - 1) / most
        self._table = np.ascontiguousarray(table)
        self._rise = np.diff(self._table, axis=-1, append=self._table[..., -1:])


class _Near:
    """What a block touches: its routes, their clusters, and the weights between them."""

    def __init__(
        self, objective: Objective, w: Array, demands: Array, block: Sequence[int]
    ) -> None:
        routes, clusters = objective.by_route, objective.by_cluster
        own = np.concatenate([clusters.members(k) for k in block])
        self.routes = np.unique(routes.index[own])
        edges = np.concatenate([routes.members(r) for r in self.routes])
        self.clusters = np.unique(clusters.index[edges])
        self.matrix = np.zeros((len(self.clusters), len(self.routes)))
        rows = np.searchsorted(self.clusters, clusters.index[edges])
        self.matrix[rows, np.searchsorted(self.routes, routes.index[edges])] = w[edges]
        self.block = np.searchsorted(self.clusters, np.asarray(block))
        self.shares = self.matrix[self.block] * demands[self.routes]
        """(block, routes) requests/s of each route that each cluster of the block gets."""
