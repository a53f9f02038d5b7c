"""What a scenario is: one model for the real Envoy and for its twin. Pure; `document` reads it.

Seconds count from the start of a repetition; what comes before it is the warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from eigenmesh.demo.oracle import Upstream
from eigenmesh.mesh import (
    Call,
    Cluster,
    GuardPolicy,
    Host,
    ObjectivePolicy,
    Retries,
    Route,
    Topology,
)

PATIENCE = 5.0
"""Seconds for which whoever sends a request waits for its answer, as `demo.load` does."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How an upstream is. fail_after: seconds after which all that arrives is answered 503, without
    a slot; None: it serves. error_rate: fraction answered 500. hang: it never answers."""

    slots: int
    service_time: float
    fail_after: float | None = None
    error_rate: float = 0.0
    hang: bool = False

    @property
    def capacity(self) -> float:
        """Requests/s that it serves well."""
        if self.hang or self.fail_after is not None:
            return 0.0
        return self.slots / self.service_time * (1.0 - self.error_rate)


@dataclass(frozen=True)
class Event:
    """What happens `at` seconds after the start.

    upstream: whose condition changes. capacity: as a fraction of the healthy one's. level: of the
    load from now on, see `Load`. telemetry: metrics are lost, or back. The rest: see `Condition`;
    healthy comes before them.
    """

    at: float
    upstream: str | None = None
    healthy: bool = False
    capacity: float | None = None
    service_time: float | None = None
    fail_after: float | None = None
    error_rate: float | None = None
    hang: bool | None = None
    level: float | None = None
    telemetry: Literal["lost", "back"] | None = None

    def after(self, now: Condition, healthy: Upstream) -> Condition:
        """What this makes of an upstream."""
        if self.healthy:
            now = Condition(healthy.slots, healthy.service_time)
        if self.capacity is not None:
            less = of_capacity(healthy.name, self.capacity * healthy.capacity, healthy.service_time)
            now = replace(now, slots=less.slots, service_time=less.service_time)
        if self.service_time is not None:
            now = replace(now, service_time=self.service_time)
        if self.fail_after is not None:
            now = replace(now, fail_after=self.fail_after)
        if self.error_rate is not None:
            now = replace(now, error_rate=self.error_rate)
        return now if self.hang is None else replace(now, hang=self.hang)


Shape = Literal["steady", "bursty", "spikes", "swing"]


@dataclass(frozen=True)
class Load:
    """Open-loop Poisson requests, whose rate follows a shape.

    level: of the capacity of all healthy upstreams; or rates: requests/s by route. Shapes:
    steady. bursty: a Markov-modulated Poisson process (H. Heffes, D. Lucantoni, IEEE JSAC 4, 1986)
    of two states, `high` times and once the base rate, which last `busy` and `calm` seconds on
    average; the base rate is such that the mean is the level. spikes: `high` times the level for
    the last `busy` seconds of every `busy + calm`. swing: a sine of relative amplitude `high - 1`
    and of period `busy + calm`, in steps of a second.
    """

    level: float = 0.7
    rates: Mapping[str, float] = field(default_factory=dict)
    shape: Shape = "steady"
    high: float = 2.0
    busy: float = 2.0
    calm: float = 8.0

    def steps(self, start: float, end: float, seed: int) -> list[tuple[float, float]]:
        """(from when on, factor) of the rates, the first at `start`."""
        period = self.busy + self.calm
        if self.shape == "steady":
            return [(start, 1.0)]
        if self.shape == "swing":
            times = np.arange(start, end).tolist()
            return [
                (t, 1.0 + (self.high - 1.0) * math.sin(2.0 * math.pi * t / period)) for t in times
            ]
        if self.shape == "spikes":
            found, at = [(start, 1.0)], 0.0
            while at < end:
                found += [(at, 1.0), (at + self.calm, self.high)]
                at += period
            return [step for step in found if start <= step[0] < end]
        chance = np.random.default_rng([seed, 9])
        base = period / (self.calm + self.high * self.busy)
        found, at, high = [], start, False
        while at < end:
            found.append((at, base * self.high if high else base))
            at += float(chance.exponential(self.busy if high else self.calm))
            high = not high
        return found


@dataclass(frozen=True)
class Way:
    """An Envoy cluster: a way to an upstream, `distance` seconds there and back. Several may lead
    to the same one. egress_cost: price of a request in seconds. calls: requests on other routes
    for each request, one after the other."""

    name: str
    upstream: str
    distance: float = 0.0
    egress_cost: float = 0.0
    calls: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Path:
    """A route. share: of the load that enters; 0: it is only called. timeout: seconds.
    retries: at most, of 5xx; per_try_timeout: seconds. retry_limit: retries outstanding in a
    cluster at most (Envoy's max_retries)."""

    name: str
    ways: tuple[str, ...]
    share: float
    timeout: float = 15.0
    retries: int = 0
    per_try_timeout: float | None = None
    retry_limit: int = 3


@dataclass(frozen=True)
class Target:
    """What is asked of Eigenmesh: `figure` over a span is at most or at least so much, times
    `against`'s figure if that is given. where: only in the cases that were varied to this."""

    figure: str
    span: str
    most: float | None = None
    least: float | None = None
    against: str | None = None
    upstream: str | None = None
    where: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """case: what was varied, and to what. shape: of the gamma distribution of service demands, 1:
    exponential. overhead: seconds that proxy, wire and timers add to every answer. slo: seconds,
    that goodput is counted within. interval: seconds between Eigenmesh's decisions."""

    name: str
    about: str
    seconds: float
    warm_up: float
    upstreams: Mapping[str, Upstream]
    ways: Mapping[str, Way]
    paths: Mapping[str, Path]
    load: Load
    events: tuple[Event, ...]
    spans: Mapping[str, tuple[float, float]]
    targets: tuple[Target, ...]
    policies: tuple[str, ...]
    case: Mapping[str, float | str] = field(default_factory=dict)
    shape: float = 1.0
    overhead: float = 0.001
    slo: float = 0.1
    interval: float = 2.0
    guard: GuardPolicy = field(default_factory=GuardPolicy)
    objective: ObjectivePolicy = field(default_factory=ObjectivePolicy)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the file says of Eigenmesh's settings, as it says it."""

    @cached_property
    def capacity(self) -> float:
        """Requests/s of all healthy upstreams."""
        return sum(u.capacity for u in self.upstreams.values())

    @cached_property
    def topology(self) -> Topology:
        """What Eigenmesh is told: no capacity is among it."""
        used = [way.upstream for way in self.ways.values()]
        return Topology(
            tuple(
                Cluster(
                    way.name,
                    host=way.upstream if used.count(way.upstream) > 1 else None,
                    egress_cost=way.egress_cost,
                    calls=tuple(Call(route, ratio) for route, ratio in way.calls.items()),
                )
                for way in self.ways.values()
            ),
            tuple(
                Route(path.name, path.ways, Retries(path.retries, path.per_try_timeout))
                for path in self.paths.values()
            ),
            tuple(Host(name, 1.0) for name in self.upstreams if used.count(name) > 1),
        )

    def demands(self, level: float, factor: float = 1.0) -> dict[str, float]:
        """Requests/s that enter, by route, at this level of the load."""
        if self.load.rates:
            scale = factor * level / self.load.level
            return {name: scale * self.load.rates.get(name, 0.0) for name in self.paths}
        return {p.name: factor * level * self.capacity * p.share for p in self.paths.values()}

    def level(self, at: float) -> float:
        """Of the load, without its shape."""
        found = [e.level for e in self.events if e.level is not None and e.at <= at]
        return found[-1] if found else self.load.level

    def condition(self, upstream: str, at: float) -> Condition:
        """How it is after everything that has happened by then."""
        healthy = self.upstreams[upstream]
        now = Condition(healthy.slots, healthy.service_time)
        for event in self.events:
            if event.upstream == upstream and event.at <= at:
                now = event.after(now, healthy)
        return now


def of_capacity(name: str, capacity: float, service_time: float) -> Upstream:
    """An upstream of exactly this capacity (requests/s): as many slots as come nearest, and the
    service time that is left."""
    slots = max(1, round(capacity * service_time))
    return Upstream(name, slots, slots / capacity)


def boundaries(scenario: Scenario, seed: int) -> Sequence[tuple[float, float]]:
    """(from when on, factor) of the load's shape over warm-up and repetition."""
    return scenario.load.steps(-scenario.warm_up, scenario.seconds, seed)
