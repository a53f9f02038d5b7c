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

in seconds per request.

Where Envoy retries, or an upstream fails, a load l_k in the bracket, and in b0_k, is that of all
attempts, l_k (1 + f + ...) for the probability f that one fails, and error_price l_k f^(n+1) is
added for what fails for good (`optimize.retries`).

If the policy names a quantile, T_k is that quantile of the cluster's latency: the mean times what
the curve has between the two at this load.

Demands of called routes follow the weights of the calling ones, and sum_r d_r in J_s counts what
enters from outside only: T_k is a cluster's own time, so that the sum is the mean over whole trees
of calls (`mesh.coupling`). The SLO, too, is held against each cluster's own time. What is offered
makes calls, also if it is then rejected. On a shared host the queue is that of the equivalent load
e_k, to which the neighbours add what they do not reject at first: so a limit spares them, too. As
it counts the cluster's own requests only, it is one of m_k e_k / l_k on that queue. A caller's
limit also counts requests that wait for calls, as many as there are under the incumbent.

The rungs of a cluster are multiples of its in-flight requests at the knee of its curve. A cluster
whose plan has no limit is taken to have Envoy's default of 1,024 requests
(config.cluster.v3.CircuitBreakers.Thresholds.max_requests).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from eigenmesh.mesh import BreakerLimits, Calls, Plan, Pools, least_limit
from eigenmesh.mesh.curve import Array
from eigenmesh.mesh.curve import latency as latency_of
from eigenmesh.optimize.encoding import Ints, rungs_of
from eigenmesh.optimize.near import Near
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.queues import Queues
from eigenmesh.optimize.retries import Retrying
from eigenmesh.optimize.segments import Segments
from eigenmesh.optimize.simplex import fill, project

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DEFAULT_LIMIT = 1024
KEEP_WITHIN = 0.15
"""A limit in force this near (relative) to the rung chosen stays as it is: curves breathe."""

NORMAL = 0.9
"""Utilisation below which a demand is a normal one, of which no limit is to turn away much."""
LIGHT = 0.5
"""Mean utilisation below which a queue empties by itself, so that no limit has to keep it short."""
BRIM = 0.99
"""Utilisation in bursts that is then let in."""
NEAREST = 16
"""Clusters of a route that a cluster counts as coupled to, on either side of it by weight."""
_CHUNK = 2**15
"""Elements of a temporary array: small enough for the cache, large enough for numpy."""
_SMOOTH = 3e-3
"""Corner radius of |w - w0| in gradients, as a fraction of an even share of the route."""


@dataclass(frozen=True)
class Expansion:
    """J near some weights w, for fixed limits.

    value: J. gradient: by the weights (edges), without the price of moving them from the
    incumbent, which has a corner there. marginal, bend: first and second derivative of each
    cluster's cost, and its neighbours', by its load (clusters), from which J's curvature comes.
    """

    w: Array
    value: float
    gradient: Array
    marginal: Array
    bend: Array


class Objective:
    """J of one problem over arrays: w (edges), limits and rungs (clusters).

    Clusters are the topology's steered ones in its order. An edge is a pair of a route and a
    cluster that it uses: routes in the topology's order, the clusters of each in the route's. So
    a mesh costs what it has: its edges, not its routes times its clusters.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        topology, policy, guard = problem.topology, problem.objective, problem.guard
        self.clusters = topology.steered_clusters
        self.routes = tuple(route.name for route in topology.routes)
        self.incumbent = problem.incumbent
        self.policy = policy
        index = {name: k for k, name in enumerate(self.clusters)}
        pairs = [(r, name) for r, route in enumerate(topology.routes) for name in route.clusters]
        self.by_route = Segments([r for r, _ in pairs])
        self.by_cluster = Segments([index[name] for _, name in pairs])
        self._rows = self.by_route.rows()
        self._padded = any((rows == len(pairs)).any() for rows in self._rows)
        bounds = [problem.bounds_of(self.routes[r], name) for r, name in pairs]
        self.low = np.array([b.min_weight for b in bounds], dtype=np.float64)
        self.high = np.array([b.max_weight for b in bounds], dtype=np.float64)
        self.initial = self.weights_of(problem.incumbent)
        self.demands = np.array([problem.demands[name] for name in self.routes])
        self.edge_demands = self.by_route.spread(self.demands)
        self.churn_prices = 0.5 * policy.churn_price * self.edge_demands / self.demands.sum()
        self._round = _SMOOTH / self.by_route.spread(self.by_route.sum(np.ones(len(pairs))))
        self.pools = Pools(topology, self.clusters)
        self.calls = Calls(topology, self.clusters)
        self.external = self.demands
        if self.calls.depth:
            made = self.calls.made(self.by_cluster.sum(self.initial * self.edge_demands))
            self.external = np.maximum(0.0, self.demands - made)
        self.total = float(self.external.sum())
        """Requests/s from outside."""
        self.queues = Queues(problem, self.clusters, self.pools)
        self.capacity = self.queues.capacity
        self.factors = np.array([s.demand_factor for s in policy.scenarios])
        omega = np.array([s.weight for s in policy.scenarios])
        self.omega = omega / omega.sum()
        if self.calls.depth:
            self.queues.occupied = self._waiting()
        loads = self.initial * self.edge_demands
        self.queues.retrying = Retrying(
            topology, self.clusters, self.by_cluster, loads, problem.failures
        )
        curves = [problem.curves[name] for name in self.clusters]
        knee = np.array([c.in_flight(policy.knee * c.capacity) for c in curves])
        ladder = np.ceil(np.outer(knee * self.queues.occupied, policy.ladder))
        least, most = np.transpose([guard.limits_of(name) for name in self.clusters])
        self.ladder: Array = np.clip(ladder, least[:, None], most[:, None])
        """(clusters, levels) requests."""
        self.initial_limits = self.limits_of(problem.incumbent)
        # Where the proxy adapts its own limit, there is one rung: the limit in force.
        still = np.array([name in topology.adaptive for name in self.clusters])
        self.ladder[still] = self.initial_limits[still, None]
        # Clipping makes rungs equal; the lowest of them stands for all.
        equal = self.ladder[:, :, None] == self.ladder[:, None, :]
        self._lowest_equal: Ints = equal.argmax(axis=-1)
        self.initial_rungs = self.nearest_rungs(self.initial_limits)

    @property
    def levels(self) -> int:
        return int(self.ladder.shape[1])

    def edges_of(self, route: int) -> slice:
        """A route's edges, which follow each other."""
        starts = self.by_route.starts
        end = starts[route + 1] if route + 1 < len(starts) else self.by_route.index.size
        return slice(int(starts[route]), int(end))

    # Between plans and arrays.

    def weights_of(self, plan: Plan) -> Array:
        splits = [plan.weights[route] for route in self.routes]
        edges = zip(self.by_route.index, self.by_cluster.index, strict=True)
        return np.array([splits[r].get(self.clusters[k], 0.0) for r, k in edges])

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
        w = np.clip(w, 0.0, 1.0)
        w = w / self.by_route.spread(self.by_route.sum(w))
        weights = dict(self.incumbent.weights)
        for r, route in enumerate(self.routes):
            edges = self.edges_of(r)
            names = (self.clusters[k] for k in self.by_cluster.index[edges])
            weights[route] = dict(zip(names, w[edges].tolist(), strict=True))
        kept = dict(self.incumbent.limits)
        for name, limit in zip(self.clusters, limits, strict=True):
            own = kept.get(name)
            if own is None or abs(own.max_requests - limit) > KEEP_WITHIN * limit:
                kept[name] = BreakerLimits.around(int(limit))
        return Plan(weights, kept)

    def project(self, w: Array) -> Array:
        """Nearest weights (..., edges) within the bounds."""
        return self._row_by_row(project, w, self.low, self.high)

    def fill(self, aim: Array, curvature: Array, most: Array) -> Array:
        """The allowed w (edges) of least sum(curvature (w - aim)^2 / 2) + price of the move from
        the incumbent, with w <= most besides; curvature (edges) above 0."""
        most = np.minimum(most, self.high)
        parts = (aim, curvature, self.churn_prices, self.initial, self.low, most)
        return self._row_by_row(fill, *parts)

    def _row_by_row(self, solve: Callable[..., Array], *parts: Array) -> Array:
        """What `solve` finds for rows of routes: parts (..., edges), the last two the bounds."""
        count = self.initial.size
        if self._padded:
            # The edge that does not exist carries nothing: its bounds are 0.
            ends = [1.0] * (len(parts) - 2) + [0.0, 0.0]
            parts = tuple(
                np.concatenate((part, np.full((*part.shape[:-1], 1), end)), axis=-1)
                for part, end in zip(parts, ends, strict=True)
            )
        out = np.empty(parts[0].shape)
        for rows in self._rows:
            out[..., rows] = solve(*(part[..., rows] for part in parts))
        return out[..., :count]

    # Values.

    def of_plan(self, plan: Plan) -> float:
        return float(self.evaluate(self.weights_of(plan), self.limits_of(plan)))

    def evaluate(self, w: Array, limits: Array) -> Array:
        """J of w (..., edges) under limits (..., clusters); the two broadcast."""
        batch = np.broadcast_shapes(w.shape[:-1], limits.shape[:-1])
        w = np.broadcast_to(w, (*batch, w.shape[-1])).reshape(-1, w.shape[-1])
        limits = np.broadcast_to(limits, (*batch, limits.shape[-1])).reshape(-1, limits.shape[-1])
        out = np.empty(len(w))
        for part in self._chunks(len(w)):
            offered = self.offered(w[part])
            m = limits[part]
            blocked = self.queues.blocked(
                offered, self.queues.felt(offered, offered), m[:, None, :]
            )
            out[part] = self._price(w[part], offered, blocked, m, self.nearest_rungs(m))
        return out.reshape(batch)

    def evaluate_rungs(self, w: Array, rungs: Ints) -> Array:
        """J of one w (edges) under many rungs (N, clusters)."""
        every = np.arange(len(self.clusters))
        rungs = self.lowest_equal(rungs)
        offered = self.offered(w)
        # What is rejected at first depends on the cluster's own rung only: a small table.
        table = self.first_rejections(offered)
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
        """J and dJ/dw (edges) for fixed limits.

        The churn's corner at the incumbent is rounded, which leaves the value below `evaluate`
        by at most churn_price * 1.5e-3. Derivatives of the queue are central differences, of
        everything else exact.
        """
        here = self.expand(w, limits)
        moved = w - self.initial
        smooth = np.sqrt(moved**2 + self._round**2)
        value = here.value + float(self.churn_prices @ (smooth - self._round - np.abs(moved)))
        return value, here.gradient + self.churn_prices * moved / smooth

    def expand(self, w: Array, limits: Array) -> Expansion:
        """J near w (edges) for fixed limits."""
        routes, clusters, calls = self.by_route, self.by_cluster, self.calls
        factors, spill, demands = self.factors[:, None], self.policy.spill, self.demands_at(w)
        demand = routes.spread(demands)
        offered = self.offered(w)
        first = self._near(offered, self.queues.felt(offered, offered))
        blocked = self.queues.blocked(first.load, first.felt, limits)
        back = clusters.spread(blocked[0])
        returning = routes.sum(back * w)
        load = offered + spill * factors * self._shared_out(w, returning * demands)
        near = self._near(load, self.queues.felt(load, load * (1.0 - blocked[0])))
        cost = self.queues.cost(near.load, limits, felt=near.felt)
        scale = (self.omega / (self.factors * self.total))[:, None]
        value = float((cost[0] * scale).sum() + self.weight_churn(w))
        value += float(self._limit_churn(self.nearest_rungs(limits)))
        # Neighbours feel what is not rejected at first.
        pressure = near.pressure(cost, scale * factors)
        marginal = near.slope(cost, scale * factors) + pressure * (1.0 - blocked[0])
        slope = clusters.spread(marginal)
        # How dear it is when a request of route r returns: h_r = spill d_r sum_k slope_k w_rk.
        h = spill * demands * routes.sum(slope * w)
        own = (slope * (1.0 + spill * routes.spread(returning))).sum(axis=0)
        rejecting = factors * self._shared_out(w, h) - load * pressure
        offering = first.slope(blocked, rejecting) + first.pressure(blocked, rejecting)
        # Of one more request on each edge; then with the calls that it makes.
        price = own = own + clusters.spread(offering.sum(axis=0))
        for _ in range(calls.depth):
            price = own + clusters.spread(calls.passed_on(routes.sum(w * price)))
        gradient = demand * price + (routes.spread(h) * back).sum(axis=0)
        bend = near.bend(cost, scale * factors**2).sum(axis=0)
        return Expansion(w, value, gradient, marginal.sum(axis=0), bend)

    def predicted_latency(self, plan: Plan) -> float:
        """Mean latency in seconds of what enters from outside and is admitted, calls and all, at
        the observed demand."""
        return self.outcome(plan)[0]

    def outcome(self, plan: Plan) -> tuple[float, float]:
        """`predicted_latency`, and the fraction of the attempts that breakers turn away."""
        w, limits = self.weights_of(plan), self.limits_of(plan)
        offered = self.loads(w)
        blocked = self.queues.blocked(offered, self.queues.felt(offered, offered), limits)
        back = self.by_route.sum(self.by_cluster.spread(blocked) * w) * self.demands_at(w)
        load = offered + self.policy.spill * self._shared_out(w, back)
        felt = self.queues.felt(load, load * (1.0 - blocked))
        admitted = load * (1.0 - self.queues.blocked(load, felt, limits))
        visits = offered.sum() / self.total
        latency = visits * self.queues.time(load, felt, limits).sum() / admitted.sum()
        return float(latency), float(1.0 - admitted.sum() / load.sum())

    def limit_ranges(
        self,
        plan: Plan,
        probability: float,
        peaks: Mapping[str, float] | None = None,
        means: Mapping[str, float] | None = None,
    ) -> dict[str, tuple[int, int]]:
        """Cluster -> the smallest limit that turns away at most this fraction of what the plan
        sends to it, and the highest rung. peaks, means: route -> the largest demand of late and the
        mean (requests/s).

        Where the mean is light it is of bursts up to the capacity: what waits then is soon gone,
        and what is turned away has lost for nothing. Else, where the peaks are within its
        capacity, that is of the peaks. Where they are not, some of them has to be turned away
        anyway: then it is of the observed demand, and no more than what gets through a full house
        within the SLO; and 1 where that is near the capacity, too.
        """
        loads = self.loads(self.weights_of(plan))
        felt, own = self.queues.felt(loads, loads), self.queues
        demands = dict(zip(self.routes, self.demands.tolist(), strict=True))
        usual, most = plan.loads(demands), plan.loads({**demands, **(peaks or {})})
        mean = plan.loads({**demands, **(means or {})})
        found = {}
        for k, name in enumerate(self.clusters):
            load, t0, capacity = float(felt[k]), float(own.t0[k]), float(own.capacity[k])
            # On a shared host only a part of that queue is the cluster's own.
            part = (float(loads[k]) / load if load > 0.0 else 1.0) * float(own.occupied[k])
            now = max(usual.get(name, 0.0), 1e-9)
            peak, long = (load * x.get(name, 0.0) / now for x in (most, mean))
            least = 1
            if means and long < LIGHT * capacity and load < NORMAL * capacity:
                least = math.ceil(least_limit(BRIM * capacity, t0, capacity, probability) * part)
            elif (peak := max(load, peak)) < NORMAL * capacity:
                least = math.ceil(least_limit(peak, t0, capacity, probability) * part)
            elif load < NORMAL * capacity:
                least = math.ceil(least_limit(load, t0, capacity, probability) * part)
                # Who has to wait for longer than is allowed had better be turned away.
                least = min(least, max(1, math.floor(capacity * self.policy.slo)))
            found[name] = least, int(self.ladder[k, -1])
        return found

    def capacity_weights(self) -> Array:
        """Weights in proportion to capacity, within the bounds."""
        w = self.by_cluster.spread(self.capacity)
        return self.shares(w)

    def shares(self, w: Array) -> Array:
        """Amounts (..., edges) above 0 to weights in proportion to them, within the bounds."""
        return self.project(w / self.by_route.spread(self.by_route.sum(w)))

    def coupling(self, w: Array) -> csr_array:
        """Sparse (clusters, clusters): requests/s of j's traffic that would come to k if j
        rejected all, and what they feel of each other on a shared host. On a route of many
        clusters each is coupled to the NEAREST by weight only: all pairs would be more than the
        rest of the mesh, and the strong ones are still there."""
        from scipy.sparse import coo_array

        routes, clusters = self.by_route.index, self.by_cluster.index
        order = np.lexsort((-w, routes))
        found = []
        for apart in range(1, min(NEAREST, len(order) - 1) + 1):
            a, b = order[:-apart], order[apart:]
            same = routes[a] == routes[b]
            if not same.any():
                break
            a, b = a[same], b[same]
            pull = self.policy.spill * self.edge_demands[a] * w[a] * w[b]
            found.append((clusters[a], clusters[b], pull))
        if self.pools.groups:
            # Of one host: half of each one's load in the other's terms.
            pairs = np.array([p for g in self.pools.groups for p in combinations(g, 2)])
            used, (a, b) = self.loads(w) / self.capacity, pairs.T
            felt = 0.5 * (used[a] * self.capacity[b] + used[b] * self.capacity[a])
            found.append((a, b, self.pools.kappa_of(a) * felt))
        size = (len(self.clusters),) * 2
        if not found:
            return coo_array(size).tocsr()
        rows, columns, pull = map(np.concatenate, zip(*found, strict=True))
        upper = coo_array((pull, (rows, columns)), size).tocsr()
        return upper + upper.T

    # Its parts, for tables of many rungs.

    def loads(self, w: Array) -> Array:
        """(..., clusters) requests/s at the observed demand, before any rejection."""
        if not self.calls.depth:
            return self.by_cluster.sum(w * self.edge_demands)
        return self._shared_out(w, self.demands_at(w))

    def demands_at(self, w: Array) -> Array:
        """(..., routes) requests/s on every route, calls included; without calls, the observed
        (routes,)."""
        demands = self.external
        for _ in range(self.calls.depth):
            demands = self.external + self.calls.made(self._shared_out(w, demands))
        return demands

    @property
    def separable(self) -> bool:
        """Whether every cluster's cost is a function of its own load and limit alone."""
        return self.pools.none

    def first_rejections(self, offered: Array) -> Array:
        """(..., clusters, levels): fraction that each rung rejects of these offered loads."""
        felt = self.queues.felt(offered, offered)
        table = self.queues.blocked(offered[..., None, :], felt[..., None, :], self.ladder.T)
        out: Array = np.moveaxis(table, -2, -1)
        return out

    def offered(self, w: Array) -> Array:
        """(..., scenarios, clusters) requests/s before any rejection."""
        load: Array = self.loads(w)[..., None, :] * self.factors[:, None]
        return load

    def lowest_equal(self, rungs: Ints) -> Ints:
        """Of rungs that clipping made equal, the lowest stands for all; (..., clusters)."""
        out: Ints = self._lowest_equal[np.arange(len(self.clusters)), rungs]
        return out

    def cost_of(self, k: int, load: Array, limits: Array) -> Array:
        """Seconds of price per second of cluster k; load and limits broadcast. Only where costs
        are `separable`."""
        return self.queues.cost(load[..., None], limits[..., None], [k])[..., 0]

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
        """Price of w (..., edges)."""
        out: Array = np.abs(w - self.initial) @ self.churn_prices
        return out

    # The formula, written once.

    def _shared_out(self, w: Array, amounts: Array) -> Array:
        """(..., clusters): each route's amount (..., routes), shared out by its weights."""
        return self.by_cluster.sum(self.by_route.spread(amounts) * w)

    def _waiting(self) -> Array:
        """(clusters,) requests in flight, under the incumbent, over those not waiting for calls."""
        queues, load = self.queues, self.loads(self.initial)
        own: Array = latency_of(
            queues.felt(load, load), queues.t0, queues.capacity, queues.variability
        )
        total = own
        for _ in range(self.calls.depth):
            routes = self.by_route.sum(self.initial * self.by_cluster.spread(total))
            total = own + self.calls.passed_on(routes)
        out: Array = total / own
        return out

    def _near(self, load: Array, felt: Array) -> Near:
        return Near(self.pools, self.capacity, load, felt)

    def _price(self, w: Array, offered: Array, blocked: Array, limits: Array, rungs: Ints) -> Array:
        """J (N,) from offered loads and first rejections (N or 1, scenarios, clusters)."""
        edges, demands = w[..., None, :], self.demands_at(w)[..., None, :]
        back = self.by_route.sum(self.by_cluster.spread(blocked) * edges) * demands
        load = offered + self.policy.spill * self.factors[:, None] * self._shared_out(edges, back)
        felt = self.queues.felt(load, load * (1.0 - blocked))
        cost = self.queues.cost(load, limits[:, None, :], felt=felt).sum(axis=-1)
        scale = self.omega / (self.factors * self.total)
        out: Array = cost @ scale + self.weight_churn(w) + self._limit_churn(rungs)
        return out

    def _limit_churn(self, rungs: Ints) -> Array:
        moves = np.abs(rungs - self.initial_rungs).mean(axis=-1)
        out: Array = self.policy.limit_churn_price * moves
        return out

    def _chunks(self, count: int) -> list[slice]:
        size = max(1, _CHUNK // (len(self.factors) * len(self.initial)))
        return [slice(start, start + size) for start in range(0, count, size)]
