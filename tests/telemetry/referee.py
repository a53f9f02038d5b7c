"""Queues whose latency is known at every load: what estimates are judged by.

The means are exact: Erlang's formula, the insensitive M/G/1-PS queue, and for demand that comes
and goes the balance equations of its Markov chain. `test_referee` checks the simulated queues
against these, and both against an independent simulator.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.linalg import solve_banded

from eigenmesh.mesh import ClusterObservation, Observation

from .simulation import LIMIT, Array, Queue, Server

LEVELS = 4000
"""Requests in the system beyond which the on/off chain is cut off."""


class SharingQueue(Queue):
    """One processor that all requests in flight share equally."""

    def __init__(self, rng: np.random.Generator, server: Server, variation: float) -> None:
        super().__init__(rng, server, variation)
        self._now = self._given = 0.0
        self._served: list[tuple[float, float]] = []
        """By the service that each must have been given, and when it came."""

    @property
    def in_flight(self) -> int:
        return len(self._served)

    def _settle(self, time: float) -> None:
        while self._served:
            goal, came = self._served[0]
            end = self._now + (goal - self._given) * len(self._served)
            if end > time:
                break
            heapq.heappop(self._served)
            self._now, self._given = end, goal
            self._finished(end - came)
        if self._served:
            self._given += (time - self._now) / len(self._served)
        self._now = time

    def arrive(self, time: float) -> None:
        self._settle(time)
        if self.in_flight >= LIMIT:
            self._rejected += 1
            return
        self._came += 1
        heapq.heappush(self._served, (self._given + self._demand(), time))


@dataclass(frozen=True)
class Scene:
    """variation: squared coefficient of variation of the service time. sharing: one processor
    shared by all, instead of slots with a queue before them. phase: mean seconds (exponential)
    for which demand is on, at twice its mean rate, and then off; None: Poisson."""

    name: str
    server: Server
    variation: float = 1.0
    sharing: bool = False
    phase: float | None = None

    @property
    def capacity(self) -> float:
        return self.server.capacity

    def mean(self, load: float) -> float:
        """Exact mean latency in seconds of the settled queue."""
        if self.sharing:
            return self.server.service / (1.0 - load / self.capacity)
        if self.phase is not None:
            return on_off_mean(self.server, load, self.phase)
        if self.variation != 1.0:
            raise NotImplementedError("no exact mean is known")
        return self.server.latency(load)

    def quantile(self, load: float, q: float) -> float:
        """Quantile of the latency in seconds: of 400,000 requests, which are kept."""
        return float(np.quantile(long_run(self, load), q))

    def run(self, seed: int, load: float, windows: int, seconds: float) -> Iterator[Observation]:
        """Windows of a queue that has settled; the cluster is called `q`."""
        world = World(self, seed)
        world.window(load, 20.0)
        for _ in range(windows):
            yield world.window(load, seconds)


class World:
    """A queue and its demand as time goes on."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.scene = scene
        kind = SharingQueue if scene.sharing else Queue
        self.queue = kind(self._rng, scene.server, scene.variation)
        self.time = 0.0
        self._on, self._left = True, 0.0

    def window(
        self, load: float, seconds: float, change: tuple[float, Server] | None = None
    ) -> Observation:
        """Runs one window. change: at this time the upstream becomes that one."""
        for time in self._arrivals(load, seconds):
            if change is not None and time >= change[0]:
                self.queue.become(change[1], time)
                change = None
            self.queue.arrive(time)
        self.time += seconds
        seen: ClusterObservation = self.queue.window(self.time, seconds)
        return Observation(self.time, seconds, {"q": seen}, {"r": seen.load})

    def latencies(self, load: float, seconds: float) -> Array:
        """Of all that completes in so many seconds, once a minute has passed."""
        self.window(load, 60.0)
        for time in self._arrivals(load, seconds):
            self.queue.arrive(time)
        return self.queue.latencies()

    def _arrivals(self, load: float, seconds: float) -> list[float]:
        if self.scene.phase is None:
            return self._poisson(load, self.time, seconds)
        times: list[float] = []
        at, end = self.time, self.time + seconds
        while at < end:
            if self._left <= 0.0:
                self._on, self._left = not self._on, self._rng.exponential(self.scene.phase)
            part = min(self._left, end - at)
            if self._on:
                times += self._poisson(2.0 * load, at, part)
            self._left -= part
            at += part
        return times

    def _poisson(self, rate: float, start: float, seconds: float) -> list[float]:
        count = self._rng.poisson(rate * seconds)
        times: list[float] = np.sort(self._rng.uniform(start, start + seconds, count)).tolist()
        return times


@cache
def long_run(scene: Scene, load: float, requests: int = 400_000, seed: int = 1) -> Array:
    """Latencies in seconds, as Envoy counts them, of about so many requests."""
    return World(scene, seed).latencies(load, requests / load)


def on_off_mean(server: Server, load: float, phase: float) -> float:
    """Mean latency of slots whose demand is on and off for exponential times of mean `phase`.

    The chain's states are (requests in the system, on or off), ordered so that its generator is
    banded: two states a level, neighbours only.
    """
    slots, mu, turn = server.slots, 1.0 / server.service, 1.0 / phase
    size = 2 * LEVELS
    level = np.arange(size) // 2
    arrive = np.where((np.arange(size) % 2 == 0) & (level < LEVELS - 1), 2.0 * load, 0.0)
    serve = np.minimum(level, slots) * mu
    # Balance of flow into each state, A p = 0, as bands: A[i, j] at bands[2 + i - j, j].
    bands = np.zeros((5, size))
    bands[2] = -(arrive + serve + turn)
    bands[4, :] = arrive
    bands[0, :] = serve
    bands[3, 0::2] = turn
    bands[1, 1::2] = turn
    # One balance equation follows from the others; the first state is set to 1 instead.
    bands[2, 0], bands[1, 1], bands[0, 2] = 1.0, 0.0, 0.0
    right = np.zeros(size)
    right[0] = 1.0
    p = solve_banded((2, 2), bands, right)
    p /= p.sum()
    return float(level @ p) / load


MM1 = Scene("M/M/1", Server(1, 0.005))
MM2 = Scene("M/M/2", Server(2, 0.01))
MM8 = Scene("M/M/8", Server(8, 0.02))
PS = Scene("M/G/1-PS", Server(1, 0.005), variation=4.0, sharing=True)
ON_OFF = Scene("on/off M/M/4", Server(4, 0.02), phase=0.05)
SCENES = (MM1, MM2, MM8, PS, ON_OFF)
