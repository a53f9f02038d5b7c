"""The one number that every solver minimises and every plan is judged by.

For a plan (weights w, limits m) and a demand scenario s with demands d_r:

    offered load     lambda_k  = sum_r d_r w_rk
    first rejection  b0_k      = blocked(lambda_k, m_k)
    spilled          x_k       = spill * sum_r w_rk d_r sum_j w_rj b0_j
    load             l_k       = lambda_k + x_k
    J_s = sum_k [ l_k (1 - b_k) (T_k + slo_price max(0, T_k - slo))
                  + error_price l_k b_k + egress_k l_k ] / sum_r d_r

with blocked fraction b_k and admitted latency T_k of the M/M/c/m queue (`mesh.breaker`) at load
l_k. Rejected requests that come back are spread by the weights of the route they belong to: that
couples the clusters' limits. One round of it is counted. Every rejection is priced, also one
that is then retried. The whole is

    J = sum_s omega_s J_s + churn_price * (moved share of the traffic)
                          + limit_churn_price * (mean number of rungs moved)

in seconds per request. The rungs of a cluster are multiples of its in-flight requests at the
knee of its curve. A cluster whose plan has no limit is taken to have Envoy's default of 1,024
requests (config.cluster.v3.CircuitBreakers.Thresholds.max_requests).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from eigenmesh.mesh import BreakerLimits, Plan, admitted_latency, blocked_fraction
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import Ints, rungs_of
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.simplex import project

DEFAULT_LIMIT = 1024
KEEP_WITHIN = 0.15
"""A limit in force this near (relative) to the rung chosen stays as it is: curves breathe."""

_CHUNK = 2**15
"""Elements of a temporary array: small enough for the cache, large enough for numpy."""
_SMOOTH = 1e-3
"""Corner radius of |w - w0| in gradients, as a fraction."""


class Objective:
    """J of one problem over arrays: w (routes, clusters), limits and rungs (clusters).

    Clusters are the topology's steered ones in its order; w is 0 where a route does not use a
    cluster.
    """

    def __init__(self, problem: Problem) -> None:
        topology, policy, guard = problem.topology, problem.objective, problem.guard
        self.clusters = topology.steered_clusters
        self.routes = tuple(route.name for route in topology.routes)
        self.incumbent = problem.incumbent
        self.policy = policy
        index = {name: k for k, name in enumerate(self.clusters)}
        shape = (len(self.routes), len(self.clusters))
        self.mask = np.zeros(shape, dtype=bool)
        self.low, self.high, self.initial = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for r, route in enumerate(topology.routes):
            split = problem.incumbent.weights[route.name]
            for name in route.clusters:
                bounds = problem.bounds_of(route.name, name)
                self.mask[r, index[name]] = True
                self.low[r, index[name]] = bounds.min_weight
                self.high[r, index[name]] = bounds.max_weight
                self.initial[r, index[name]] = split.get(name, 0.0)
        self.demands = np.array([problem.demands[name] for name in self.routes])
        self.total = float(self.demands.sum())
        curves = [problem.curves[name] for name in self.clusters]
        self.t0 = np.array([c.t0 for c in curves])
        self.capacity = np.array([c.capacity for c in curves])
        self.variability = np.array([c.variability for c in curves])
        self.egress = np.array([topology.by_name[name].egress_cost for name in self.clusters])
        self.factors = np.array([s.demand_factor for s in policy.scenarios])
        omega = np.array([s.weight for s in policy.scenarios])
        self.omega = omega / omega.sum()
        knee = np.array([c.in_flight(policy.knee * c.capacity) for c in curves])
        ladder = np.ceil(np.outer(knee, policy.ladder))
        self.ladder: Array = np.clip(ladder, guard.min_limit, guard.max_limit)
        """(clusters, levels) requests."""
        # Clipping makes rungs equal; the lowest of them stands for all.
        equal = self.ladder[:, :, None] == self.ladder[:, None, :]
        self._lowest_equal: Ints = equal.argmax(axis=-1)
        self.initial_limits = self.limits_of(problem.incumbent)
        self.initial_rungs = self.nearest_rungs(self.initial_limits)

    @property
    def levels(self) -> int:
        return int(self.ladder.shape[1])

    # Between plans and arrays.

    def weights_of(self, plan: Plan) -> Array:
        return np.array([[plan.weights[r].get(k, 0.0) for k in self.clusters] for r in self.routes])

    def limits_of(self, plan: Plan) -> Array:
        return np.array(
            [
                float(plan.limits[k].max_requests) if k in plan.limits else DEFAULT_LIMIT
                for k in self.clusters
            ]
        )

    def nearest_rungs(self, limits: ArrayLike) -> Ints:
        """Nearest rung of every limit, by ratio; the lowest of equal rungs."""
        ratio = np.log(np.asarray(limits, dtype=np.float64)[..., None] / self.ladder)
        out: Ints = np.abs(ratio).argmin(axis=-1)
        return out

    def limits_at(self, rungs: ArrayLike) -> Array:
        """Limits of rungs (..., clusters)."""
        out: Array = self.ladder[np.arange(len(self.clusters)), np.asarray(rungs)]
        return out

    def plan(self, w: Array, limits: Array) -> Plan:
        """The plan of these arrays; what the problem does not cover stays as in the incumbent."""
        w = np.where(self.mask, np.clip(w, 0.0, 1.0), 0.0)
        w = w / w.sum(axis=1, keepdims=True)
        weights = dict(self.incumbent.weights)
        for r, route in enumerate(self.routes):
            weights[route] = {
                k: float(w[r, i]) for i, k in enumerate(self.clusters) if self.mask[r, i]
            }
        kept = dict(self.incumbent.limits)
        for name, limit in zip(self.clusters, limits, strict=True):
            own = kept.get(name)
            if own is None or abs(own.max_requests - limit) > KEEP_WITHIN * limit:
                kept[name] = BreakerLimits.around(int(limit))
        return Plan(weights, kept)

    def project(self, w: Array) -> Array:
        """Nearest weights within the bounds."""
        return project(w, self.low, self.high)

    # Values.

    def of_plan(self, plan: Plan) -> float:
        return float(self.evaluate(self.weights_of(plan), self.limits_of(plan)))

    def evaluate(self, w: Array, limits: Array) -> Array:
        """J of w (..., routes, clusters) under limits (..., clusters); the two broadcast."""
        batch = np.broadcast_shapes(w.shape[:-2], limits.shape[:-1])
        w = np.broadcast_to(w, batch + w.shape[-2:]).reshape(-1, *w.shape[-2:])
        limits = np.broadcast_to(limits, (*batch, limits.shape[-1])).reshape(-1, limits.shape[-1])
        out = np.empty(len(w))
        for part in self._chunks(len(w)):
            offered = self._offered(w[part])
            m = limits[part]
            blocked = blocked_fraction(offered, self.t0, self.capacity, m[:, None, :])
            out[part] = self._price(w[part], offered, blocked, m, self.nearest_rungs(m))
        return out.reshape(batch)

    def evaluate_rungs(self, w: Array, rungs: Ints) -> Array:
        """J of one w (routes, clusters) under many rungs (N, clusters)."""
        every = np.arange(len(self.clusters))
        rungs = self.lowest_equal(rungs)
        offered = self._offered(w[None])
        # What is rejected at first depends on the cluster's own rung only: a small table.
        table = blocked_fraction(
            offered[0, :, :, None], self.t0[:, None], self.capacity[:, None], self.ladder
        )
        out = np.empty(len(rungs))
        for part in self._chunks(len(rungs)):
            blocked = np.moveaxis(table[:, every, rungs[part]], 0, 1)
            limits = self.ladder[every, rungs[part]]
            out[part] = self._price(w, offered, blocked, limits, rungs[part])
        return out

    def diagonal(self, w: Array, block: Sequence[int], rungs: Ints) -> Array:
        """J for every basis state of the block's clusters, the others held at `rungs`."""
        states = np.arange(self.levels ** len(block))
        every = np.tile(rungs, (len(states), 1))
        every[:, list(block)] = rungs_of(states, len(block), self.levels)
        return self.evaluate_rungs(w, every)

    def value_and_gradient(self, w: Array, limits: Array) -> tuple[float, Array]:
        """J and dJ/dW (routes, clusters) for fixed limits.

        The churn's corner at the incumbent is rounded, which leaves the value below `evaluate`
        by at most churn_price * 5e-4 a cluster. Derivatives of the queue are central differences,
        of everything else exact.
        """
        factors, spill = self.factors[:, None], self.policy.spill
        offered = self._offered(w[None])[0]
        step = 1e-6 * self.capacity
        points, width = _around(offered, step)
        blocked = blocked_fraction(points, self.t0, self.capacity, limits)
        back, d_blocked = blocked[0], (blocked[1] - blocked[2]) / width
        returning = back @ w.T
        load = offered + spill * factors * ((returning * self.demands) @ w)
        points, width = _around(load, step)
        cost = self._cost(points, limits)
        scale = (self.omega / (self.factors * self.total))[:, None]
        value = float((cost[0] * scale).sum())
        slope = scale * (cost[1] - cost[2]) / width
        # How dear it is when a request of route r returns: h_r = spill d_r sum_k slope_k w_rk.
        h = spill * factors * self.demands * (slope @ w.T)
        demand = self.demands[:, None]
        gradient = demand * np.einsum("sk,sr->rk", factors * slope, 1.0 + spill * returning)
        gradient += np.einsum("sr,sk->rk", h, back)
        gradient += demand * (factors * d_blocked * (h @ w)).sum(axis=0)
        moved = w - self.initial
        smooth = np.sqrt(moved**2 + _SMOOTH**2)
        price = 0.5 * self.policy.churn_price * demand / self.total * self.mask
        value += float((price * (smooth - _SMOOTH)).sum())
        value += float(self._limit_churn(self.nearest_rungs(limits)))
        gradient = (gradient + price * moved / smooth) * self.mask
        return value, gradient

    def predicted_latency(self, plan: Plan) -> float:
        """Rate-weighted mean latency of what is admitted at the observed demand, in seconds."""
        w, limits = self.weights_of(plan), self.limits_of(plan)
        offered = self.demands @ w
        blocked = blocked_fraction(offered, self.t0, self.capacity, limits)
        load = offered + self.policy.spill * ((w @ blocked) * self.demands) @ w
        admitted = load * (1.0 - blocked_fraction(load, self.t0, self.capacity, limits))
        latency = admitted_latency(load, self.t0, self.capacity, limits, self.variability)
        return float(admitted @ latency / admitted.sum())

    def capacity_weights(self) -> Array:
        """Weights in proportion to capacity, within the bounds."""
        w = self.mask * self.capacity
        return self.project(w / w.sum(axis=1, keepdims=True))

    # Its parts, for tables of many rungs.

    def offered(self, w: Array) -> Array:
        """(scenarios, clusters) requests/s before any rejection."""
        out: Array = self._offered(w[None])[0]
        return out

    def lowest_equal(self, rungs: Ints) -> Ints:
        """Of rungs that clipping made equal, the lowest stands for all; (..., clusters)."""
        out: Ints = self._lowest_equal[np.arange(len(self.clusters)), rungs]
        return out

    def cost_of(self, k: int, load: Array, limits: Array) -> Array:
        """Seconds of price per second of cluster k; load and limits broadcast."""
        return self._cost(load[..., None], limits[..., None], [k])[..., 0]

    def rung_churn(self, rungs: Ints, block: Sequence[int]) -> Array:
        """(block, levels) price of the block's rungs; the other clusters' is in the first row."""
        price = self.policy.limit_churn_price / len(self.clusters)
        levels = self._lowest_equal[list(block)]
        out: Array = price * np.abs(levels - self.initial_rungs[list(block), None])
        others = np.ones(len(self.clusters), dtype=bool)
        others[list(block)] = False
        out[0] += price * np.abs(rungs - self.initial_rungs)[others].sum()
        return out

    def weight_churn(self, w: Array) -> Array:
        """Price of w (..., routes, clusters)."""
        moved = 0.5 * (np.abs(w - self.initial).sum(axis=-1) @ self.demands) / self.total
        out: Array = self.policy.churn_price * moved
        return out

    def coupling(self, w: Array) -> Array:
        """(clusters, clusters) requests/s of j's traffic that would come to k if j rejected all."""
        shared: Array = self.policy.spill * (w.T * self.demands) @ w
        return shared

    # The formula, written once.

    def _offered(self, w: Array) -> Array:
        """(N, scenarios, clusters) requests/s before any rejection."""
        load: Array = (self.demands @ w)[:, None, :] * self.factors[:, None]
        return load

    def _cost(self, load: Array, limits: Array, of: Sequence[int] | None = None) -> Array:
        """Seconds of price per second of every cluster, or of some: the bracket of J_s."""
        policy, some = self.policy, slice(None) if of is None else list(of)
        t0, capacity, egress = self.t0[some], self.capacity[some], self.egress[some]
        blocked = blocked_fraction(load, t0, capacity, limits)
        latency = admitted_latency(load, t0, capacity, limits, self.variability[some])
        served = latency + policy.slo_price * np.maximum(0.0, latency - policy.slo)
        out: Array = load * ((1.0 - blocked) * served + policy.error_price * blocked + egress)
        return out

    def _price(self, w: Array, offered: Array, blocked: Array, limits: Array, rungs: Ints) -> Array:
        """J (N,) from offered loads and first rejections (N or 1, scenarios, clusters)."""
        back = (blocked @ np.swapaxes(w, -1, -2)) * self.demands
        load = offered + self.policy.spill * self.factors[:, None] * (back @ w)
        cost = self._cost(load, limits[:, None, :]).sum(axis=-1)
        scale = self.omega / (self.factors * self.total)
        out: Array = cost @ scale + self.weight_churn(w) + self._limit_churn(rungs)
        return out

    def _limit_churn(self, rungs: Ints) -> Array:
        moves = np.abs(rungs - self.initial_rungs).mean(axis=-1)
        out: Array = self.policy.limit_churn_price * moves
        return out

    def _chunks(self, count: int) -> list[slice]:
        size = max(1, _CHUNK // (len(self.factors) * len(self.clusters)))
        return [slice(start, start + size) for start in range(0, count, size)]


def _around(load: Array, step: Array) -> tuple[Array, Array]:
    """Loads (3, ...): here, above and below; and the distance of the last two."""
    above, below = load + step, np.maximum(load - step, 0.0)
    return np.stack((load, above, below)), above - below
