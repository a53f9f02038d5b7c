"""How much more a cluster gets to do because Envoy tries again, and what fails for good.

Envoy chooses the weighted cluster once for a request, so all its attempts go to one cluster. An
attempt fails with probability

    f = e + (1 - e) exp(-timeout / T)

where e is the fraction that the upstream was seen to fail, and the time that an attempt takes is
taken for exponential around its mean T (as it is for M/M/1), of which Envoy waits the route's
per-try timeout. With n retries there are 1 + f + ... + f^n attempts of each request, by Envoy's
retry budget at most 1 / (1 - budget), and f^(n+1) of the requests fail for good. Routes count by
their part of the cluster's load under the incumbent.

First order: T is that of the first attempts, attempts that time out count with their whole time,
and only the cluster itself feels its retries (not its neighbours on a host, nor what it calls).
Envoy never retries what a breaker of its own rejected; clients do, which is the policy's `spill`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eigenmesh.mesh import Retries, RetryBudget, Topology
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.segments import Segments

MOST = 1.0 / (1.0 - RetryBudget().budget_percent / 100.0)
"""Attempts for each request that the retry budget of a plan allows."""
_SOME = 1e-9
"""Requests/s that every edge counts with at least, so that there are parts of an idle cluster."""


class Retrying:
    """Amplification over an order of clusters. `none`: nothing fails and nothing is retried.

    by_cluster: the edges; loads: requests/s on each under the incumbent, in the order of the
    topology's routes. failures: cluster -> e.
    """

    def __init__(
        self,
        topology: Topology,
        clusters: Sequence[str],
        by_cluster: Segments,
        loads: Array,
        failures: Mapping[str, float],
    ) -> None:
        of_edges = [r.retries for r in topology.routes for _ in r.clusters]
        # A route without timeout and retries does as any other such.
        kinds = list(dict.fromkeys(of_edges))
        loads = loads + _SOME
        parts = [loads * [kind == one for one in of_edges] for kind in kinds]
        self._shares: Array = by_cluster.sum(np.stack(parts)) / by_cluster.sum(loads)
        self._kinds = kinds
        self._failing = np.array([failures.get(name, 0.0) for name in clusters])
        self.none = kinds == [Retries()] and not self._failing.any()

    def of(self, latency: Array, some: Sequence[int] | slice = slice(None)) -> tuple[Array, Array]:
        """Attempts for each request, and the part of the requests that fails for good, of
        clusters (..., clusters), or of some, whose attempts take `latency` seconds on average."""
        failing = self._failing[some]
        attempts, lost = np.zeros(latency.shape), np.zeros(latency.shape)
        for kind, shares in zip(self._kinds, self._shares, strict=True):
            late: Array | float = 0.0
            if kind.per_try_timeout is not None:
                late = np.exp(-kind.per_try_timeout / latency)
            fails = failing + (1.0 - failing) * late
            tries = sum(fails**i for i in range(1, kind.most + 1))
            attempts += shares[some] * np.minimum(1.0 + tries, MOST)
            lost += shares[some] * fails ** (kind.most + 1)
        return attempts, lost
