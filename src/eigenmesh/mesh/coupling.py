"""What clusters do to each other beside sharing a route's traffic: shared hosts and calls.

**Shared hosts.** On a host of coupling kappa a cluster is as slow as if its own load were

    e_k = l_k + kappa * capacity_k * sum_j l_j / capacity_j        over the other clusters j

so neighbours count by the share of the host that they use. For kappa = 1 and one processor that
all requests share equally this is exact: the M/G/1-PS queue with several classes has the mean
latency s_k / (1 - sum of all rho) for service times s_k, whatever their distribution (L. Kleinrock,
"Queueing Systems", vol. 2, chapter 4), and with t0_k = s_k, capacity_k = 1 / s_k the curve at e_k
is that. For kappa = 0 the clusters are apart, which is exact too. What lies between, and pools of
several processors, are our approximation.

**Calls.** Each request to a cluster makes `ratio` requests on another route, one after the other.
Then the demand of a route is d_r = external_r + sum_k ratio_kr l_k, and a cluster's latency is its
own (exclusive) time plus sum_r ratio_kr times the latency of route r. Summed over a request's whole
tree of calls that is every visited cluster's own time: sum_k l_k X_k / sum_r external_r is the
mean latency of what enters from outside, nothing counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eigenmesh.mesh.curve import Array
from eigenmesh.mesh.topology import Topology

Ints = NDArray[np.int64]


class Pools:
    """Shared hosts over an order of clusters. `none`: there are none; `felt` changes nothing."""

    def __init__(self, topology: Topology, clusters: Sequence[str]) -> None:
        index = {name: k for k, name in enumerate(clusters)}
        groups, kappas = [], []
        for host, names in topology.shared_hosts.items():
            here = [index[name] for name in names if name in index]
            if len(here) > 1 and (kappa := topology.couplings[host]):
                groups.append(here)
                kappas.append(kappa)
        sizes = [len(group) for group in groups]
        self.none = not groups
        self.clusters: Ints = np.array([k for group in groups for k in group], dtype=np.int64)
        """Those that share a host, host by host."""
        self.groups = tuple(tuple(group) for group in groups)
        self._starts: Ints = np.cumsum([0, *sizes[:-1]], dtype=np.int64)
        self._group: Ints = np.repeat(np.arange(len(groups)), sizes)
        self._kappa: Array = np.repeat(np.array(kappas, dtype=np.float64), sizes)

    def kappa_of(self, clusters: Ints) -> Array:
        """The coupling of these clusters' hosts; each shares one."""
        order = np.argsort(self.clusters)
        found: Array = self._kappa[order[np.searchsorted(self.clusters, clusters, sorter=order)]]
        return found

    def felt(self, used: Array) -> Array:
        """What every cluster feels of the use of the hosts (..., clusters), itself included.

        With used = load / capacity, felt * capacity is the equivalent load. The map is linear and
        symmetric, so gradients go back through it as they came.
        """
        if self.none:
            return used
        here = used.take(self.clusters, axis=-1)
        sums = np.add.reduceat(here, self._starts, axis=-1).take(self._group, axis=-1)
        out = used.copy()
        out[..., self.clusters] += self._kappa * (sums - here)
        return out


class Calls:
    """Calls over an order of clusters and routes. `depth`: the longest chain of them, 0 if none."""

    def __init__(self, topology: Topology, clusters: Sequence[str]) -> None:
        routes = {route.name: r for r, route in enumerate(topology.routes)}
        found = [
            (k, routes[call.route], call.ratio)
            for k, name in enumerate(clusters)
            for call in topology.by_name[name].calls
            if call.ratio
        ]
        self._calls = found
        self._shape = len(clusters), len(routes)
        self.depth = _depth(topology) if found else 0

    def made(self, loads: Array) -> Array:
        """Requests/s on every route (..., routes) that clusters of these loads make."""
        out = np.zeros((*loads.shape[:-1], self._shape[1]))
        for k, r, ratio in self._calls:
            out[..., r] += ratio * loads[..., k]
        return out

    def passed_on(self, prices: Array) -> Array:
        """What a request to every cluster (..., clusters) costs in calls, at these prices of a
        request on each route: `made`, the other way round."""
        out = np.zeros((*prices.shape[:-1], self._shape[0]))
        for k, r, ratio in self._calls:
            out[..., k] += ratio * prices[..., r]
        return out


def _depth(topology: Topology) -> int:
    known: dict[str, int] = {}

    def of(route: str) -> int:
        if route not in known:
            known[route] = max(
                (
                    1 + of(call.route)
                    for name in topology.route_by_name[route].clusters
                    for call in topology.by_name[name].calls
                ),
                default=0,
            )
        return known[route]

    return max(of(route.name) for route in topology.routes)
