"""Clusters that share machines and call each other, simulated, and their exact means.

Every request shares a machine's cores equally with all others on it, each on at most one core.
With Poisson demand that is a network of symmetric queues, whose means are known whatever the
distribution of the service times (F. Baskett, K. M. Chandy, R. R. Muntz, F. G. Palacios, "Open,
closed, and mixed networks of queues with different classes of customers", J. ACM 22, 1975): on a
machine of c cores at utilisation rho all are slowed down by the same factor, that of M/M/c.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from eigenmesh.mesh import ClusterObservation, Observation

from .simulation import Server

Demands = Mapping[str, float]
Weights = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Service:
    """What one request to a cluster does, one thing after the other.

    work: (machine, mean seconds of one core). calls: (route, mean number of requests on it).
    """

    work: tuple[tuple[str, float], ...]
    calls: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Machines:
    """cores: machine -> cores. clusters: cluster -> what a request does. weights: of all routes."""

    cores: Mapping[str, int]
    clusters: Mapping[str, Service]
    weights: Weights

    def loads(self, demands: Demands) -> tuple[dict[str, float], dict[str, float]]:
        """Requests/s on every route, calls included, and to every cluster."""
        routes, todo = dict.fromkeys(self.weights, 0.0), dict(demands)
        clusters = dict.fromkeys(self.clusters, 0.0)
        while todo:
            again: dict[str, float] = {}
            for route, demand in todo.items():
                routes[route] += demand
                for name, weight in self.weights[route].items():
                    clusters[name] += demand * weight
                    for called, ratio in self.clusters[name].calls:
                        again[called] = again.get(called, 0.0) + demand * weight * ratio
            todo = again
        return routes, clusters

    def own_times(self, demands: Demands) -> dict[str, float]:
        """Cluster -> mean seconds of a request without its calls."""
        _, loads = self.loads(demands)
        used = dict.fromkeys(self.cores, 0.0)
        for name, service in self.clusters.items():
            for machine, seconds in service.work:
                used[machine] += loads[name] * seconds
        slower = {m: Server(c, 1.0).latency(used[m]) for m, c in self.cores.items()}
        return {
            name: sum(seconds * slower[machine] for machine, seconds in service.work)
            for name, service in self.clusters.items()
        }

    def mean(self, demands: Demands) -> float:
        """Mean seconds of what enters by these demands, calls and all."""
        own, (_, loads) = self.own_times(demands), self.loads(demands)
        return sum(loads[n] * own[n] for n in loads) / sum(demands.values())


Visit = Generator[tuple[str, float], None, None]


class _Machine:
    """Requests by the service that each must have been given."""

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._now = self._given = 0.0
        self._left: list[tuple[float, int, Visit]] = []

    @property
    def _pace(self) -> float:
        return min(1.0, self._cores / len(self._left))

    @property
    def next(self) -> float:
        """When the first is done."""
        return self._now + (self._left[0][0] - self._given) / self._pace if self._left else math.inf

    def advance(self, time: float) -> None:
        if self._left:
            self._given += (time - self._now) * self._pace
        self._now = time

    def add(self, work: float, number: int, visit: Visit) -> None:
        heapq.heappush(self._left, (self._given + work, number, visit))

    def take(self) -> Visit:
        self._given, _, visit = heapq.heappop(self._left)
        return visit


@dataclass
class _Window:
    came: int = 0
    took: list[float] = field(default_factory=list)


class Run:
    """The machines as time goes on."""

    def __init__(self, machines: Machines, seed: int) -> None:
        self.machines = machines
        self.time = 0.0
        self._rng = np.random.default_rng(seed)
        self._nodes = {name: _Machine(cores) for name, cores in machines.cores.items()}
        self._in_flight = dict.fromkeys(machines.clusters, 0)
        self._numbers = count()
        self._clear()

    def _clear(self) -> None:
        self._seen = {name: _Window() for name in self.machines.clusters}
        self._asked = dict.fromkeys(self.machines.weights, 0)

    def _visit(self, route: str) -> Visit:
        self._asked[route] += 1
        split = self.machines.weights[route]
        name = list(split)[int(self._rng.choice(len(split), p=list(split.values())))]
        service, came = self.machines.clusters[name], self.time
        self._seen[name].came += 1
        self._in_flight[name] += 1
        for machine, seconds in service.work:
            yield machine, float(self._rng.exponential(seconds))
        for called, ratio in service.calls:
            for _ in range(int(ratio + self._rng.uniform())):
                yield from self._visit(called)
        self._in_flight[name] -= 1
        self._seen[name].took.append(self.time - came)

    def _go_on(self, visit: Visit) -> None:
        try:
            machine, work = next(visit)
        except StopIteration:
            return
        self._nodes[machine].advance(self.time)
        self._nodes[machine].add(work, next(self._numbers), visit)

    def _until(self, time: float) -> None:
        while True:
            first = min(self._nodes.values(), key=lambda node: node.next)
            if first.next > time:
                self.time = time
                return
            self.time = first.next
            first.advance(self.time)
            self._go_on(first.take())

    def window(self, demands: Demands, seconds: float) -> Observation:
        arrivals = sorted(
            (self.time + at, route)
            for route, demand in demands.items()
            for at in self._rng.uniform(0.0, seconds, self._rng.poisson(demand * seconds)).tolist()
        )
        end = self.time + seconds
        for time, route in arrivals:
            self._until(time)
            self._go_on(self._visit(route))
        self._until(end)
        clusters = {
            name: ClusterObservation(
                load=seen.came / seconds,
                throughput=len(seen.took) / seconds,
                mean=sum(seen.took) / len(seen.took) if seen.took else None,
                in_flight=float(self._in_flight[name]),
            )
            for name, seen in self._seen.items()
        }
        asked = {route: number / seconds for route, number in self._asked.items()}
        self._clear()
        return Observation(self.time, seconds, clusters, asked)
