"""Queues whose truth is known, seen through Envoy's windows, and a loop that steers them.

First-come-first-served queues with c slots and Poisson arrivals; latencies are counted as Envoy
counts them, in whole milliseconds. The truth for the steady state is Erlang's formula.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenmesh.mesh import ClusterObservation, CurveEstimate, Observation
from eigenmesh.mesh.curve import latency as family
from eigenmesh.telemetry.estimator import Estimator, Tuning

Array = NDArray[np.float64]

LIMIT = 1024
"""Envoy's default max_requests."""

SHOWN = (0.5, 0.9, 0.99)
"""Quantiles that a window shows."""


@dataclass(frozen=True)
class Server:
    """The truth: slots, mean service time in seconds, and the breaker's limit before it."""

    slots: int
    service: float
    limit: int = LIMIT

    @property
    def capacity(self) -> float:
        return self.slots / self.service

    def latency(self, load: float) -> float:
        """Mean seconds of the settled M/M/c queue; beyond 99.9% of capacity a very large number."""
        if load >= 0.999 * self.capacity:
            return 1e3 * load / self.capacity
        offered = load * self.service
        blocked = 1.0
        for k in range(1, self.slots + 1):
            blocked = offered * blocked / (k + offered * blocked)
        rho = offered / self.slots
        waits = blocked / (1.0 - rho + rho * blocked)
        return self.service * (1.0 + waits / (self.slots * (1.0 - rho)))


REFERENCE = {"a": Server(8, 0.02), "b": Server(4, 0.02), "c": Server(2, 0.02)}
DEGRADED = {**REFERENCE, "a": Server(6, 0.022)}
DEMAND = 490.0


class Queue:
    """One cluster as it runs. variation: squared coefficient of variation of the service time
    (1: exponential, 0: constant, above: log-normal)."""

    def __init__(self, rng: np.random.Generator, server: Server, variation: float = 1.0) -> None:
        self._rng = rng
        self._variation = variation
        self._server = server
        self._free = [0.0] * server.slots
        self._leaving: list[tuple[float, float]] = []
        self._clear()

    def _clear(self) -> None:
        self._came = self._rejected = 0
        self._took: list[float] = []

    def become(self, server: Server, time: float) -> None:
        """Requests in service keep their slots."""
        free = sorted(max(time, f) for f in self._free)
        spare = server.slots - len(free)
        self._free = free[-spare:] if spare < 0 else free + [time] * spare
        heapq.heapify(self._free)
        self._server = server

    def _settle(self, time: float) -> None:
        while self._leaving and self._leaving[0][0] <= time:
            self._finished(heapq.heappop(self._leaving)[1])

    def _finished(self, took: float) -> None:
        self._took.append((math.floor(took * 1e3) + 0.5) / 1e3)

    def _demand(self) -> float:
        mean = self._server.service
        if self._variation == 0.0:
            return mean
        if self._variation == 1.0:
            return float(self._rng.exponential(mean))
        sigma = math.log1p(self._variation)
        return mean * float(self._rng.lognormal(-0.5 * sigma, math.sqrt(sigma)))

    def arrive(self, time: float) -> None:
        self._settle(time)
        if len(self._leaving) >= self._server.limit:
            self._rejected += 1
            return
        self._came += 1
        end = max(time, self._free[0]) + self._demand()
        heapq.heapreplace(self._free, end)
        heapq.heappush(self._leaving, (end, end - time))

    def latencies(self) -> Array:
        """Seconds that each took that completed since the last window."""
        return np.array(self._took)

    @property
    def in_flight(self) -> int:
        return len(self._leaving)

    def window(self, time: float, seconds: float) -> ClusterObservation:
        self._settle(time)
        took = self._took
        seen = ClusterObservation(
            load=self._came / seconds,
            throughput=len(took) / seconds,
            mean=sum(took) / len(took) if took else None,
            in_flight=float(self.in_flight),
            quantiles=dict(zip(SHOWN, np.quantile(took, SHOWN).tolist(), strict=True))
            if took
            else {},
            breaker_errors=self._rejected / seconds,
        )
        self._clear()
        return seen


class Mesh:
    """All queues under one Poisson demand (requests/s) that is split by weights."""

    def __init__(
        self, seed: int, servers: Mapping[str, Server], demand: float, variation: float = 1.0
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self.servers = dict(servers)
        self.demand = demand
        self.time = 0.0
        self._queues = {n: Queue(self._rng, s, variation) for n, s in servers.items()}

    def window(
        self,
        weights: Sequence[float],
        seconds: float,
        change: tuple[float, Mapping[str, Server]] | None = None,
    ) -> Observation:
        """Runs one window. change: at this time the upstreams become those."""
        count = self._rng.poisson(self.demand * seconds)
        times = np.sort(self._rng.uniform(self.time, self.time + seconds, count))
        names = list(self._queues)
        chosen = self._rng.choice(len(names), count, p=np.asarray(weights) / sum(weights))
        for time, which in zip(times.tolist(), chosen.tolist(), strict=True):
            if change is not None and time >= change[0]:
                self._become(change[1], time)
                change = None
            self._queues[names[which]].arrive(time)
        self.time += seconds
        clusters = {n: q.window(self.time, seconds) for n, q in self._queues.items()}
        total = sum(c.load + c.breaker_errors for c in clusters.values())
        return Observation(
            self.time, seconds, clusters, {"first": 0.5 * total, "second": 0.5 * total}
        )

    def _become(self, servers: Mapping[str, Server], time: float) -> None:
        for name, server in servers.items():
            if server != self.servers[name]:
                self._queues[name].become(server, time)
        self.servers = dict(servers)


def best_weights(
    latencies: Sequence[Callable[[Array], Array]], demand: float, units: int = 600
) -> Array:
    """Convex and separable, so: unit by unit to whoever's total latency grows least."""
    loads = np.linspace(0.0, demand, units + 1)
    marginal = np.concatenate([np.diff(loads * f(loads)) for f in latencies])
    owner = np.repeat(np.arange(len(latencies)), units)
    cheapest = owner[np.argsort(marginal, kind="stable")[:units]]
    return np.maximum(np.bincount(cheapest, minlength=len(latencies)) / units, 0.02)


def true_mean(servers: Mapping[str, Server], weights: Sequence[float], demand: float) -> float:
    """Mean latency in seconds once these weights have settled."""
    return sum(
        w * s.latency(w * demand) for w, s in zip(weights, servers.values(), strict=True)
    ) / sum(weights)


def optimum(servers: Mapping[str, Server], demand: float) -> float:
    """The least mean latency in seconds that any weights give."""
    exact = [np.vectorize(s.latency, otypes=[np.float64]) for s in servers.values()]
    return true_mean(servers, [float(w) for w in best_weights(exact, demand)], demand)


def as_function(estimate: CurveEstimate) -> Callable[[Array], Array]:
    curve = estimate.curve
    return lambda load: family(load, curve.t0, curve.capacity, curve.variability)


@dataclass(frozen=True)
class Tick:
    """gap: how much more mean latency the weights cost, once settled, than the best ones."""

    time: float
    servers: Mapping[str, Server]
    estimates: Mapping[str, CurveEstimate]
    weights: tuple[float, ...]
    gap: float


def closed_loop(
    seed: int,
    *,
    start: Mapping[str, Server] = REFERENCE,
    demand: float = DEMAND,
    seconds: float = 2.0,
    take_over: float = 15.0,
    change: tuple[float, Mapping[str, Server]] = (50.0, DEGRADED),
    end: float = 100.0,
    step: float = 0.125,
    variation: float = 1.0,
    weights: Sequence[float] | None = None,
    tuning: Tuning | None = None,
) -> Iterator[Tick]:
    """Equal weights until `take_over`, then each window the largest weight change towards the
    optimum of the *estimated* curves is `step`. The change falls within a window, at random."""
    mesh = Mesh(seed, start, demand, variation)
    estimator = Estimator(tuning)
    now = np.asarray(weights or [1.0 / len(start)] * len(start))
    at = change[0] + np.random.default_rng(seed).uniform(0.0, seconds)
    seen = 0.0
    best = {id(s): optimum(s, demand) for s in (start, change[1])}
    while mesh.time < end:
        due = mesh.time <= at < mesh.time + seconds
        observation = mesh.window(list(now), seconds, (at, change[1]) if due else None)
        estimates = estimator.update(observation)
        total = observation.total_demand
        seen = total if seen == 0.0 else 0.6 * seen + 0.4 * total
        if mesh.time >= take_over and len(estimates) == len(start):
            goal = best_weights([as_function(estimates[n]) for n in start], seen)
            delta = goal / goal.sum() - now
            now = now + delta * min(1.0, step / max(float(np.abs(delta).max()), 1e-9))
        truth = change[1] if mesh.time > at else start
        split = tuple(float(w) for w in now)
        gap = true_mean(truth, split, demand) / best[id(truth)] - 1.0
        yield Tick(mesh.time, truth, dict(estimates), split, gap)
