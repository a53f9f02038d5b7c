"""Baselines: how the load would be split without Eigenmesh. Pure; seconds and requests/s.

B1 equal weights; B2 least request (of two choices, and of ten); B3 weights in proportion to the
healthy capacities; B4 the oracle, who knows every capacity at every time; B5 L3's rule. Beside them
the oracle's split as weights of endpoints, which Envoy serves in turns; what an oracle of each
route would do for itself, as if it were alone; and what never leaves the site.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, pdtr

from bench.scenarios.model import Condition, Scenario
from bench.scenarios.parts import Steering
from eigenmesh.mesh import ClusterObservation, Observation, Plan

Array = NDArray[np.float64]
Split = dict[str, dict[str, float]]

FULL = 0.999
"""Fraction of its capacity that the oracle ever gives to an upstream."""
_GRID = 1.0 - np.geomspace(1.0, 1.0 - FULL, 400)
"""Utilisations at which marginal costs are known; between them they are interpolated."""
_SWEEPS, _ENOUGH = 100, 1e-3


def equal(scenario: Scenario) -> Steering:
    return Steering(Plan.equal(scenario.topology))


def least_request(scenario: Scenario, choices: int) -> Steering:
    return Steering(Plan.equal(scenario.topology), choices=choices)


def proportional(scenario: Scenario) -> Steering:
    """To what the upstreams can serve while they are healthy."""
    capacities = {u: one.capacity for u, one in scenario.upstreams.items()}
    return Steering(Plan(_proportional(scenario, capacities), {}))


def oracle(scenario: Scenario, at: float, *, endpoints: bool = False) -> Steering:
    """The best fixed split of one who knows how every upstream is now."""
    conditions = {u: scenario.condition(u, at) for u in scenario.upstreams}
    split = best_split(scenario, conditions, scenario.demands(scenario.level(at)))
    return Steering(Plan(split, {}), endpoints=endpoints)


def greedy(scenario: Scenario, at: float) -> Steering:
    """Each route as an oracle would split it that knows of no other."""
    conditions = {u: scenario.condition(u, at) for u in scenario.upstreams}
    demands = scenario.demands(scenario.level(at))
    split = {
        name: best_split(scenario, conditions, {name: demands[name]})[name]
        for name in scenario.paths
    }
    return Steering(Plan(split, {}))


def local(scenario: Scenario) -> Steering:
    """In proportion to the capacities of what is no way off."""
    capacities = {
        way.upstream: scenario.upstreams[way.upstream].capacity for way in scenario.ways.values()
    }
    split = _proportional(scenario, capacities)
    for own in split.values():
        near = {name: w for name, w in own.items() if scenario.ways[name].distance == 0.0}
        total = sum(near.values())
        if near:
            own.update({name: near.get(name, 0.0) / total for name in own})
    return Steering(Plan(split, {}))


def mean_latency(condition: Condition, load: Array) -> Array:
    """Seconds in system of the M/M/c queue at these loads below its capacity: Erlang's delay
    formula (L. Kleinrock, Queueing Systems I, 1975, 3.5)."""
    slots, service = condition.slots, condition.service_time
    offered = np.maximum(load * service, 1e-12)
    blocked = np.exp(slots * np.log(offered) - offered - gammaln(slots + 1.0))
    blocked /= pdtr(slots, offered)
    waits = blocked / (1.0 - (offered / slots) * (1.0 - blocked))
    mean: Array = service + waits / (slots / service - load)
    return mean


def best_split(
    scenario: Scenario, conditions: Mapping[str, Condition], demands: Mapping[str, float]
) -> Split:
    """Water-filling, one route after the other until none moves: the cost is convex in all
    weights, so what no route can improve is the optimum. A way's cost is the marginal latency of
    its upstream, its distance and egress, and its calls at what the called routes cost now.

    Where the demand is more than there is, the split is in proportion to the capacities.
    """
    split = _proportional(scenario, {u: c.capacity for u, c in conditions.items()})
    tables = {u: _table(c) for u, c in conditions.items()}
    calling = any(way.calls for way in scenario.ways.values())
    damping = 0.5 if calling else 1.0  # a called route's demand and price move with the split
    routes, loads = _loads(scenario, split, demands)
    prices: dict[str, float] = {}
    for _ in range(_SWEEPS):
        moved = 0.0
        for name, path in scenario.paths.items():
            if calling:
                routes, loads = _loads(scenario, split, demands)
                prices = _prices(scenario, split, tables, loads)
            demand = routes[name]
            if demand <= 0.0 or len(path.ways) < 2:
                continue
            ways = [scenario.ways[way] for way in path.ways]
            others = [loads[w.upstream] - demand * split[name][w.name] for w in ways]
            offsets = [
                w.distance + w.egress_cost + sum(r * prices[c] for c, r in w.calls.items())
                for w in ways
            ]
            found = _fill([tables[w.upstream] for w in ways], others, offsets, demand)
            if found is None:
                continue
            for way, weight in zip(ways, (found / found.sum()).tolist(), strict=True):
                step = damping * (weight - split[name][way.name])
                split[name][way.name] += step
                loads[way.upstream] += demand * step
                moved = max(moved, abs(step))
        if moved < _ENOUGH:
            break
    return split


def l3_weight(seen: ClusterObservation) -> float:
    """The published rule of L3 (100 / ((in-flight/rps + 1)^2 (L + P (1/SR - 1))), P = 0.6 s, at
    least 1)."""
    if seen.load <= 0.0 or seen.mean is None:
        return 1.0
    success = max(seen.success_rate, 1e-3)
    cost = seen.mean + 0.6 * (1.0 / success - 1.0)
    return max(1.0, 100.0 / ((seen.in_flight / seen.load + 1.0) ** 2 * max(cost, 1e-6)))


class L3Rule:
    """Weighs every `interval` seconds what the last ten seconds showed."""

    interval = 5.0
    window = 10.0

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._seen: deque[Observation] = deque(maxlen=round(self.window / self.interval))
        self.steering = equal(scenario)

    def update(self, seen: Observation) -> Steering:
        """The next split; a hole in the data leaves it alone."""
        if seen.missing:
            return self.steering
        self._seen.append(seen)
        weights = {}
        for name in self._scenario.ways:
            own = [one.clusters[name] for one in self._seen]
            done = sum(one.throughput for one in own)
            timed = [(o.throughput, o.mean) for o in own if o.mean is not None]
            mean = sum(n * m for n, m in timed) / sum(n for n, _ in timed) if timed else None
            weights[name] = l3_weight(
                ClusterObservation(
                    load=sum(o.load for o in own) / len(own),
                    throughput=done / len(own),
                    mean=mean,
                    in_flight=own[-1].in_flight,
                    upstream_errors=sum(o.upstream_errors for o in own) / len(own),
                )
            )
        split = {}
        for name, path in self._scenario.paths.items():
            total = sum(weights[way] for way in path.ways)
            split[name] = {way: weights[way] / total for way in path.ways}
        self.steering = Steering(Plan(split, {}))
        return self.steering


# ---------------------------------------------------------------------- the oracle's arithmetic


def _proportional(scenario: Scenario, capacities: Mapping[str, float]) -> Split:
    split = {}
    for name, path in scenario.paths.items():
        own = {way: capacities[scenario.ways[way].upstream] for way in path.ways}
        total = sum(own.values())
        split[name] = {way: c / total if total > 0.0 else 1.0 / len(own) for way, c in own.items()}
    return split


def _table(condition: Condition) -> tuple[Array, Array]:
    """Loads, and the marginal cost there: d(load T(load))/d(load), increasing."""
    loads = _GRID * condition.capacity
    if condition.capacity <= 0.0:
        return np.zeros(1), np.full(1, np.inf)
    middle, width = 0.5 * (loads[1:] + loads[:-1]), np.diff(loads)
    total = loads * mean_latency(condition, loads)
    marginal = np.diff(total) / width
    return np.concatenate([[0.0], middle]), np.concatenate([[condition.service_time], marginal])


def _fill(
    tables: list[tuple[Array, Array]], others: list[float], offsets: list[float], demand: float
) -> Array | None:
    """The loads that even out the marginal costs; None if they do not fit. others: what the
    upstreams have already."""

    def at(level: float) -> Array:
        reached = [
            max(0.0, float(np.interp(level - offset, table[1], table[0])) - other)
            if level - offset >= table[1][0]
            else 0.0
            for table, other, offset in zip(tables, others, offsets, strict=True)
        ]
        return np.array(reached)

    high = max(float(t[1][-1]) + o for t, o in zip(tables, offsets, strict=True) if t[0].size > 1)
    low = 0.0
    if at(high).sum() < demand:
        return None
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if at(middle).sum() < demand else (low, middle)
    found = at(high)
    return found if found.sum() > 0.0 else None


def _loads(
    scenario: Scenario, split: Split, demands: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Requests/s on every route, calls included, and at every upstream."""
    routes = dict.fromkeys(scenario.paths, 0.0)
    loads = dict.fromkeys(scenario.upstreams, 0.0)
    todo = dict(demands)
    while todo:
        calls: dict[str, float] = {}
        for name, demand in todo.items():
            routes[name] += demand
            for way, weight in split[name].items():
                own = scenario.ways[way]
                loads[own.upstream] += demand * weight
                for called, ratio in own.calls.items():
                    calls[called] = calls.get(called, 0.0) + demand * weight * ratio
        todo = {name: demand for name, demand in calls.items() if demand > 0.0}
    return routes, loads


def _prices(
    scenario: Scenario,
    split: Split,
    tables: Mapping[str, tuple[Array, Array]],
    loads: Mapping[str, float],
) -> dict[str, float]:
    """What one more request on each route costs everybody, its calls included."""
    known: dict[str, float] = {}
    own = {u: float(np.interp(loads[u], table[0], table[1])) for u, table in tables.items()}

    def of(route: str) -> float:
        if route not in known:
            known[route] = sum(
                weight * (own[w.upstream] + w.distance + w.egress_cost + called(w.calls))
                for way, weight in split[route].items()
                if weight > 0.0
                for w in (scenario.ways[way],)
            )
        return known[route]

    def called(calls: Mapping[str, float]) -> float:
        return sum(ratio * of(route) for route, ratio in calls.items())

    return {route: of(route) for route in scenario.paths}
