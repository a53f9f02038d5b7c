"""What the simulated mesh is made of: upstreams, breakers, endpoints, routes and requests."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.scenarios.model import Condition, Path, Way
from eigenmesh.mesh import BreakerLimits, Plan

Array = NDArray[np.float64]

_BLOCK = 4096


@dataclass(frozen=True)
class Steering:
    """What the Envoys are told. plan: weights and limits. choices: all endpoints of a route in one
    cluster under LEAST_REQUEST with so many choices; None: weighted clusters. endpoints: the
    weights are those of endpoints in one cluster."""

    plan: Plan
    choices: int | None = None
    endpoints: bool = False


class Attempt:
    """One try of one request. due: when it was meant to be sent; first, since: when its first try,
    and this one, were. deadline: when this one times out. todo: calls that it has yet to make.
    over: Envoy waits for it no more."""

    __slots__ = (
        "deadline",
        "demand",
        "due",
        "first",
        "host",
        "over",
        "parent",
        "path",
        "since",
        "todo",
        "tries",
    )

    def __init__(
        self,
        path: Course,
        host: Host,
        due: float,
        demand: float,
        first: float,
        tries: int = 0,
        parent: Attempt | None = None,
    ) -> None:
        self.path = path
        self.host = host
        self.due = due
        self.demand = demand
        self.first = first
        self.tries = tries
        self.parent = parent
        self.since = self.deadline = 0.0
        self.todo: list[str] | None = None
        self.over = False


class Server:
    """An upstream. expired: how many at the head of the queue nobody waits for any more. armed: a
    look at who is behind them is due."""

    __slots__ = (
        "armed",
        "arrived",
        "busy",
        "condition",
        "expired",
        "plain",
        "service_time",
        "slots",
        "waiting",
    )

    def __init__(self, condition: Condition) -> None:
        self.busy = self.arrived = self.expired = 0
        self.armed = False
        self.waiting: deque[Attempt] = deque()
        self.become(condition)

    def become(self, condition: Condition) -> None:
        self.condition = condition
        self.slots, self.service_time = condition.slots, condition.service_time
        self.plain = not condition.hang and condition.fail_after is None


class Meter:
    """What the Envoys count of a cluster, from the start; `active` is now. took: seconds of what
    was answered, in the order of time."""

    __slots__ = ("active", "came", "completed", "errors", "rejected", "retries", "timeouts", "took")

    def __init__(self) -> None:
        self.active = self.came = self.completed = self.errors = self.timeouts = 0
        self.rejected = self.retries = 0
        self.took = array("d")


class Gate:
    """A cluster's breaker on one proxy."""

    __slots__ = ("active", "budget", "least", "limit", "retry_limit", "retrying")

    def __init__(self) -> None:
        self.active = self.retrying = 0
        self.limit = self.retry_limit = 1
        self.budget: float | None = None
        self.least = 0

    def allow(self, max_requests: int, limits: BreakerLimits, retry_limit: int) -> None:
        self.limit, self.retry_limit, self.budget = max_requests, retry_limit, None
        if limits.retry_budget is not None:
            self.budget = limits.retry_budget.budget_percent / 100.0
            self.least = limits.retry_budget.min_retry_concurrency

    @property
    def retries_left(self) -> bool:
        most = self.retry_limit
        if self.budget is not None:
            most = max(self.least, int(self.budget * self.active))
        return self.retrying < most


class Host:
    """One endpoint as one proxy knows it."""

    __slots__ = ("active", "calls", "distance", "gate", "meter", "proxy", "server")

    def __init__(self, proxy: int, way: Way, server: Server, gate: Gate, meter: Meter) -> None:
        self.proxy, self.server, self.gate, self.meter = proxy, server, gate, meter
        self.active = 0
        self.distance = way.distance
        self.calls = tuple(way.calls.items())


class Course:
    """A route: its hosts by proxy, and what chooses among them."""

    __slots__ = ("asked", "cumulative", "hosts", "number", "spec", "stream", "turns", "weights")

    def __init__(self, spec: Path, number: int, hosts: list[list[Host]], stream: Stream) -> None:
        self.spec, self.number, self.hosts, self.stream = spec, number, hosts, stream
        self.asked = 0
        self.cumulative: Array = np.ones(1)
        self.weights: list[float] = []
        self.turns: list[list[tuple[float, int]]] = []


class Stream:
    """A Poisson process of rate 1, with what each of its requests brings: a service demand of mean
    1, and a number that chooses its cluster. At any rate it is read faster or slower."""

    def __init__(self, seed: Sequence[int], shape: float) -> None:
        self._rng = np.random.default_rng(seed)
        self._shape = shape
        self._end = self._read = 0.0
        self._left = np.empty((3, 0))

    def take(self, start: float, end: float, rate: float) -> Array:
        """Rows of times, demands and choices from `start` to `end`."""
        until = self._read + rate * (end - start)
        while self._end <= until:
            times = self._end + np.cumsum(self._rng.exponential(size=_BLOCK))
            demands = self._rng.gamma(self._shape, 1.0 / self._shape, _BLOCK)
            block = np.stack([times, demands, self._rng.random(_BLOCK)])
            self._left = np.concatenate([self._left, block], axis=1)
            self._end = float(times[-1])
        size = int(np.searchsorted(self._left[0], until))
        taken, self._left = self._left[:, :size].copy(), self._left[:, size:]
        if size:
            taken[0] = start + (taken[0] - self._read) / rate
        self._read = until
        return taken
