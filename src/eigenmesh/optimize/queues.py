"""What each cluster does with a load under a limit: queues, retries, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from eigenmesh.mesh import Pools, admitted_latency, blocked_fraction
from eigenmesh.mesh.curve import RHO_MAX, Array, stretch
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.retries import Retrying

_NODES = 65
"""Utilisations at which a curve's quantiles are computed; between them they are read off."""
_HIGH = 0.75
"""Quantiles below are nearer to the mean than to a full house."""
_SERVICE = 0.8
"""Of the tail of a service, what counts behind a queue: the two do not peak together."""
_LEAST_SHARE = 1e-3
"""Share of a host's load below which a cluster's limit in terms of the host grows no more."""


class Queues:
    """The clusters' queues, in one order; arrays are (..., clusters).

    Loads are requests/s, without Envoy's retries; `felt` are equivalent loads on shared hosts (see
    `objective`). occupied: requests in flight over those that do not wait for calls; it and
    `retrying` are set once the incumbent's loads are known.
    """

    retrying: Retrying

    def __init__(self, problem: Problem, clusters: Sequence[str], pools: Pools) -> None:
        policy = problem.objective
        curves = [problem.curves[name] for name in clusters]
        self._policy = policy
        self.pools = pools
        self.t0 = np.array([c.t0 for c in curves])
        self.capacity = np.array([c.capacity for c in curves])
        self.variability = np.array([c.variability for c in curves])
        self.occupied = np.ones(len(curves))
        costs = problem.topology.by_name
        self._egress = np.array([costs[name].egress_cost for name in clusters])
        self._stretch: Array | None = None
        if policy.quantile is not None:
            nodes, servers = np.linspace(0.0, RHO_MAX, _NODES), self.capacity * self.t0
            tails = np.array([problem.tails.get(name, 1.0) for name in clusters])
            curve = stretch(nodes, servers[:, None], policy.quantile, self.variability[:, None])
            self._stretch = tails[:, None] * curve

    def felt(self, load: Array, admitted: Array) -> Array:
        """Equivalent loads, of own loads and what the neighbours admit."""
        if self.pools.none:
            return load
        used = admitted / self.capacity
        felt: Array = load + (self.pools.felt(used) - used) * self.capacity
        return felt

    def blocked(self, load: Array, felt: Array, limits: Array) -> Array:
        """Fraction that is rejected."""
        load, felt, _, _ = self.with_retries(load, felt, limits, slice(None))
        inner = self._inner(load, felt, limits, slice(None))
        return blocked_fraction(felt, self.t0, self.capacity, inner)

    def time(self, load: Array, felt: Array, limits: Array) -> Array:
        """Seconds of latency per second, all attempts of what is admitted together."""
        load, felt, _, _ = self.with_retries(load, felt, limits, slice(None))
        inner = self._inner(load, felt, limits, slice(None))
        blocked = blocked_fraction(felt, self.t0, self.capacity, inner)
        latency = admitted_latency(felt, self.t0, self.capacity, inner, self.variability)
        return load * (1.0 - blocked) * latency

    def cost(
        self,
        load: Array,
        limits: Array,
        of: Sequence[int] | None = None,
        felt: Array | None = None,
    ) -> Array:
        """Seconds of price per second of every cluster, or of some: the bracket of J_s.

        felt: equivalent loads; None where costs are `separable`.
        """
        policy, some = self._policy, slice(None) if of is None else list(of)
        t0, capacity, egress = self.t0[some], self.capacity[some], self._egress[some]
        felt = load if felt is None else felt
        load, felt, first, lost = self.with_retries(load, felt, limits, some)
        inner = self._inner(load, felt, limits, some)
        blocked = blocked_fraction(felt, t0, capacity, inner)
        latency = admitted_latency(felt, t0, capacity, inner, self.variability[some])
        if self._stretch is not None:
            # The curve's quantile is that of a queue without an end. In one that is cut nobody
            # waits for more than those before him, give or take, and his own service.
            tail = latency * _read(self._stretch[some], felt / capacity)
            latency = np.minimum(tail, self._longest(inner, t0, capacity))
        served = latency + policy.slo_price * np.maximum(0.0, latency - policy.slo)
        out: Array = load * ((1.0 - blocked) * served + policy.error_price * blocked + egress)
        return out if lost is None else out + policy.error_price * lost * first

    def with_retries(
        self, load: Array, felt: Array, limits: Array, some: Sequence[int] | slice
    ) -> tuple[Array, Array, Array, Array | None]:
        """Loads and equivalent loads with all attempts, and the load and the part of it that fails
        for good without them."""
        if self.retrying.none:
            return load, felt, load, None
        inner = self._inner(load, felt, limits, some)
        curve = self.t0[some], self.capacity[some]
        latency = admitted_latency(felt, *curve, inner, self.variability[some])
        attempts, lost = self.retrying.of(latency, some)
        return load * attempts, felt + load * (attempts - 1.0), load, lost

    def _longest(self, limits: Array, t0: Array, capacity: Array) -> Array:
        """Seconds of the quantile in a full house: Poisson's spread of the queue before it, and an
        exponential service's tail, of which a little is left by what is served meanwhile."""
        q = self._policy.quantile
        if q is None or q < _HIGH:
            return np.full(np.broadcast_shapes(limits.shape, t0.shape), np.inf)
        ahead = np.maximum(0.0, limits - np.maximum(1.0, capacity * t0))
        spread = NormalDist().inv_cdf(q) * np.sqrt(ahead)
        service = -_SERVICE * np.log1p(-q) * t0
        out: Array = np.maximum(0.0, ahead + spread) / capacity + service
        return out

    def _inner(self, load: Array, felt: Array, limits: Array, some: Sequence[int] | slice) -> Array:
        """Limits in terms of the queues: see `objective`."""
        limits = limits / self.occupied[some]
        if self.pools.none:
            return limits
        share = load / np.maximum(felt, 1e-300)
        return limits / np.maximum(share, _LEAST_SHARE)


def _read(table: Array, rho: Array) -> Array:
    """Of a table (clusters, _NODES) over utilisations up to RHO_MAX, at rho (..., clusters)."""
    x = np.clip(rho / RHO_MAX, 0.0, 1.0) * (_NODES - 1)
    cell = np.minimum(x.astype(np.int64), _NODES - 2)
    every = np.arange(len(table))
    low = table[every, cell]
    out: Array = low + (x - cell) * (table[every, cell + 1] - low)
    return out
