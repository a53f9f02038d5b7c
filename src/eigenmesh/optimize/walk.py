"""The rungs of a whole mesh, changed block by block at the price of the block.

What a block's rungs turn away goes to the routes that use the block, and from there to the clusters
of those routes; what all of these then admit is felt on their hosts. Nothing else changes. A
`RungWalk` knows what every cluster carries, and what its neighbours on the host add, at the rungs
where it stands, so that the costs of a block's combinations take the block, its routes and its
hosts, not the mesh. They are read off small tables (one a cluster and rung, by load and by what
the neighbours add) computed once, and may be a little wrong; whether a move is made is decided by
J itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints, gray_inverse, state_of
from eigenmesh.optimize.objective import Objective

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NODES = 24
"""Loads at which a cluster's cost is tabulated, where no host is shared; what its neighbours on the
host admit together, where one is."""
SHARED_NODES = (24, 10)
"""What the neighbours add, and own loads, at which it is tabulated where hosts are shared."""
_TOGETHER = 256
"""Clusters tabulated at a time: what is computed of them stays small."""


class RungWalk:
    """J of one w (edges) as a function of the rungs, and where it stands."""

    def __init__(self, objective: Objective, w: Array, rungs: Ints) -> None:
        self.objective = objective
        self.levels = objective.levels
        self._w = w
        self._offered = objective.offered(w)
        self._demands = objective.demands_at(w)
        self._blocked = objective.first_rejections(self._offered)
        self._spill = objective.policy.spill * objective.factors[:, None]
        self._scale = objective.omega / (objective.factors * objective.total)
        self._churn = objective.rung_churn(rungs, range(len(rungs)))
        self._hosts = _Hosts(objective)
        self._tabulate()
        self.restart(rungs)

    def restart(self, rungs: Ints) -> None:
        """Stands at these rungs from now on."""
        every = np.arange(len(rungs))
        self.rungs: Ints = self.objective.lowest_equal(rungs)
        rejected = self._blocked[:, every, self.rungs]
        self._load = self._offered + self._spill * self._back(rejected)
        self._added = self._hosts.added(every, self._load * (1.0 - rejected))

    def coupling(self) -> csr_array:
        """Of clusters through shared routes and hosts (clusters, clusters)."""
        return self.objective.coupling(self._w)

    def value(self) -> float:
        """J where it stands."""
        return float(self.objective.evaluate_rungs(self._w, self.rungs[None])[0])

    def changes(self, block: Sequence[int]) -> Array:
        """(levels^len(block),): how much J changes with each basis state of the block, nearly: by
        the tables for the block's own clusters, by the curve of what the host's other clusters
        cost together, by marginal costs for all else."""
        hosts, near = self._hosts, _Near(self.objective, self._w, self._demands, block)
        count, chosen = len(block), list(block)
        order = gray_inverse(np.arange(self.levels))
        shapes = [[self.levels if i == j else 1 for i in range(count)] for j in range(count)]
        # (scenarios, block, levels) of each cluster's requests that come back, more than now.
        held = self._blocked[:, chosen, self.rungs[chosen]]
        there = self._blocked[:, chosen][..., order]
        more = self._spill[:, None] * (there - held[..., None])
        pull = near.matrix @ near.shares.T
        own = pull[near.block].T
        beside = hosts.beside(chosen)
        slopes = self._slopes(near.clusters, beside)
        slopes[:, near.block] = 0.0
        alone = ((slopes @ pull)[..., None] * more).sum(axis=0)
        alone += self._churn[chosen][:, order]
        # What a request to each neighbour that is not rejected adds to its host, in its terms.
        rejected = self._blocked[:, near.clusters, self.rungs[near.clusters]]
        use = (1.0 - rejected) / hosts.capacity[near.clusters]
        use[:, near.block] = 0.0
        out = np.zeros((1,) * count)
        for i in range(count):
            out = out + alone[i].reshape(shapes[i])

        def summed(start: float, parts: Array) -> Array:
            """start + the parts (block, levels), for every state."""
            total = np.full((1,) * count, start)
            for part, shape in zip(parts, shapes, strict=True):
                if part.any():
                    total = total + part.reshape(shape)
            return total

        shared = hosts.shared(chosen)
        for s in range(len(more)):
            loads = [
                summed(self._load[s, k], own[:, i, None] * more[s]) for i, k in enumerate(chosen)
            ]
            used = [
                load * ((1.0 - there[s, i]) / hosts.capacity[k]).reshape(shapes[i])
                for i, (k, load) in enumerate(zip(chosen, loads, strict=True) if shared else ())
            ]
            sums: dict[int, Array] = {}
            for host in shared:
                at = hosts.of[near.clusters] == host
                moved = (use[s, at] @ pull[at])[:, None] * more[s]
                others = hosts.others(host, chosen)
                here = self._load[s, others] / hosts.capacity[others]
                here = here * (1.0 - self._blocked[s, others, self.rungs[others]])
                sums[host] = summed(float(here.sum()), moved)
                for k, part in zip(chosen, used, strict=True):
                    if hosts.of[k] == host:
                        sums[host] = sums[host] + part
                if len(others):
                    out = out + self._together(s, others, here, sums[host])
            for i, k in enumerate(chosen):
                added = None
                if (host := int(hosts.of[k])) in sums:
                    added = hosts.kappa[k] * hosts.capacity[k] * (sums[host] - used[i])
                out = out + self._read(s, k, order.reshape(shapes[i]), loads[i], added)
        flat = np.broadcast_to(out, (self.levels,) * count).ravel()
        changes: Array = flat - flat[int(state_of(self.rungs[chosen], self.levels))]
        return changes

    def move(self, block: Sequence[int], rungs: Ints) -> bool:
        """Puts the block's clusters on these rungs if that lowers J, and says whether it did."""
        objective, hosts, chosen = self.objective, self._hosts, list(block)
        near = _Near(objective, self._w, self._demands, block)
        moved = self.rungs.copy()
        moved[chosen] = rungs
        moved = objective.lowest_equal(moved)
        touched = hosts.beside(near.clusters)
        place = np.searchsorted(touched, near.clusters)
        both = np.stack((self.rungs, moved))[:, touched]
        rejected = np.moveaxis(self._blocked[:, touched, both], 0, 1)
        first, then = (self._blocked[:, chosen, r[chosen]] for r in (self.rungs, moved))
        loads = np.repeat(self._load[None][..., touched], 2, axis=0)
        loads[1][:, place] += self._spill * (((then - first) @ near.shares) @ near.matrix.T)
        added = hosts.added(touched, loads * (1.0 - rejected))
        limits = objective.ladder[touched, both]
        cost = objective.queues.cost(loads, limits[:, None], touched.tolist(), loads + added)
        change = float((cost[1] - cost[0]).sum(axis=-1) @ self._scale)
        change += float(self._churn[chosen, moved[chosen]].sum())
        change -= float(self._churn[chosen, self.rungs[chosen]].sum())
        if change >= 0.0:
            return False
        self.rungs = moved
        self._load[:, touched] = loads[1]
        self._added[:, touched] = added[1]
        return True

    def _back(self, rejected: Array) -> Array:
        """(scenarios, clusters) that come back where these fractions (the same) are rejected."""
        routes, clusters = self.objective.by_route, self.objective.by_cluster
        amounts = routes.sum(clusters.spread(rejected) * self._w) * self._demands
        return clusters.sum(routes.spread(amounts) * self._w)

    def _together(self, s: int, some: Ints, used: Array, sums: Array) -> Array:
        """What clusters of one host cost together when it carries `sums`, of which they use
        `used` each, at the loads they have."""
        objective, hosts = self.objective, self._hosts
        low, high = float(sums.min()), float(sums.max())
        nodes = np.linspace(low, max(high, low + 1e-9), NODES)
        load = self._load[s, some]
        added = hosts.kappa[some] * hosts.capacity[some] * (nodes[:, None] - used)
        limits = objective.ladder[some, self.rungs[some]]
        cost = objective.queues.cost(load, limits, some.tolist(), load + added).sum(axis=-1)
        out: Array = np.interp(sums, nodes, self._scale[s] * cost)
        return out

    def _read(self, s: int, k: int, rungs: Ints, load: Array, added: Array | None) -> Array:
        """Cluster k's part of J, off its table; added: by its neighbours (None: nothing)."""
        table = self._table[s, k]
        _, across, along = table.shape
        flat = table.reshape(-1)
        x = (load - self._offered[s, k]) * self._per_load[s, k]
        cell = np.minimum(x.astype(np.int64), along - 2)
        x = x - cell
        cell = cell + rungs * (across * along)
        if added is None:
            low = flat.take(cell)
            return np.asarray(low + x * (flat.take(cell + 1) - low))
        y = (added - self._least[s, k]) * self._per_added[s, k]
        row = np.clip(y.astype(np.int64), 0, across - 2)
        y = y - row
        cell = cell + row * along
        low, high = flat.take(cell), flat.take(cell + along)
        low = low + x * (flat.take(cell + 1) - low)
        high = high + x * (flat.take(cell + along + 1) - high)
        return np.asarray(low + y * (high - low))

    def _slopes(self, clusters: Ints, counted: Ints) -> Array:
        """(scenarios, clusters) of J by load, where it stands. What is felt on the hosts of the
        clusters `counted` is counted elsewhere."""
        hosts = self._hosts
        if hosts.none:
            return self._slope(clusters)[0]
        touched = hosts.beside(clusters)
        slope, added = self._slope(touched)
        dear = hosts.kappa[touched] * hosts.capacity[touched] * added
        rejected = self._blocked[:, touched, self.rungs[touched]]
        felt = hosts.summed(touched, dear) * (1.0 - rejected) / hosts.capacity[touched]
        felt[:, np.isin(touched, counted)] = 0.0
        out: Array = (slope + felt)[:, np.searchsorted(touched, clusters)]
        return out

    def _slope(self, some: Ints) -> tuple[Array, Array]:
        """(scenarios, some) of a cluster's own part of J, by its load and by what is added."""
        _, _, _, across, along = self._table.shape
        table = self._table[:, some, self.rungs[some]]
        scenarios, places = np.ogrid[: len(table), : len(some)]
        x = (self._load[:, some] - self._offered[:, some]) * self._per_load[:, some]
        cell = np.clip(x.astype(np.int64), 0, along - 2)
        x = x - cell
        y = (self._added[:, some] - self._least[:, some]) * self._per_added[:, some]
        row = np.clip(y.astype(np.int64), 0, max(0, across - 2))
        y, next_row = y - row, np.minimum(row + 1, across - 1)
        low = table[scenarios, places, row, cell]
        rise = table[scenarios, places, row, cell + 1] - low
        high = table[scenarios, places, next_row, cell]
        more = table[scenarios, places, next_row, cell + 1] - high
        by_load = (rise + y * (more - rise)) * self._per_load[:, some]
        by_added = (high - low + x * (more - rise)) * self._per_added[:, some]
        return by_load, by_added

    def _tabulate(self) -> None:
        """Every cluster's part of J on each rung, from no rejections to as many as can be."""
        objective, hosts, offered = self.objective, self._hosts, self._offered
        across, along = (1, NODES) if hosts.none else SHARED_NODES
        least = 1e-9 * objective.capacity
        most = np.maximum(self._spill * self._back(self._blocked.max(axis=-1)), least)
        every = np.arange(offered.shape[1])
        fewest, lightest = self._blocked.min(axis=-1), self._blocked.max(axis=-1)
        self._least = hosts.added(every, offered * (1.0 - lightest))
        range_ = hosts.added(every, (offered + most) * (1.0 - fewest)) - self._least
        range_ = np.maximum(range_, least)
        self._per_load = (along - 1) / most
        self._per_added = (across - 1) / range_
        x = np.linspace(0.0, 1.0, along)[:, None, None]
        y = np.linspace(0.0, 1.0, across)[:, None, None, None]
        self._table = np.empty((*offered.shape, self.levels, across, along))
        for start in range(0, len(every), _TOGETHER):
            some = every[start : start + _TOGETHER]
            load = offered[:, some] + x * most[:, some]
            felt = load + self._least[:, some] + y * range_[:, some]
            limits = objective.ladder[some].T[:, None, None, None, :]
            cost = objective.queues.cost(load, limits, some.tolist(), felt) * self._scale[:, None]
            self._table[:, some] = np.moveaxis(cost, (3, 4), (0, 1))


class _Hosts:
    """Who shares a host with whom. of: every cluster's host, its own where it is alone; kappa: the
    coupling there, 0 where it is alone."""

    def __init__(self, objective: Objective) -> None:
        pools, count = objective.pools, len(objective.clusters)
        self.none = pools.none
        self.capacity = objective.capacity
        self._groups: list[Ints] = [np.array(group) for group in pools.groups]
        self.of: Ints = np.arange(count) + len(self._groups)
        self.kappa = np.zeros(count)
        for host, group in enumerate(self._groups):
            self.of[group] = host
            self.kappa[group] = pools.kappa_of(group)

    def shared(self, some: Sequence[int] | Ints) -> list[int]:
        """The hosts of these clusters that are shared."""
        hosts = np.unique(self.of[np.asarray(some)])
        out: list[int] = hosts[: np.searchsorted(hosts, len(self._groups))].tolist()
        return out

    def beside(self, some: Sequence[int] | Ints) -> Ints:
        """These clusters and all on their hosts, in order."""
        found = [self._groups[host] for host in self.shared(some)]
        out: Ints = np.unique(np.concatenate((np.asarray(some), *found)))
        return out

    def others(self, host: int, some: Sequence[int]) -> Ints:
        """A shared host's clusters but these."""
        group = self._groups[host]
        out: Ints = group[np.isin(group, some, invert=True)]
        return out

    def added(self, some: Ints, admitted: Array) -> Array:
        """(..., some): what the neighbours add to each one's load, all of a host being there."""
        if self.none:
            return np.zeros(admitted.shape)
        unit = self.capacity[some]
        out: Array = self.kappa[some] * unit * self.summed(some, admitted / unit)
        return out

    def summed(self, some: Ints, values: Array) -> Array:
        """(..., some): the sum over each one's neighbours, itself left out."""
        hosts, place = np.unique(self.of[some], return_inverse=True)
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(len(hosts)))
        sums = np.add.reduceat(values.take(order, axis=-1), starts, axis=-1)
        out: Array = sums.take(place, axis=-1) - values
        return out


class _Near:
    """What a block's spill touches: its routes, their clusters, and the weights between them."""

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
