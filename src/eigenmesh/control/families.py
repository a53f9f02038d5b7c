"""Families of metrics with a bound on their series, and a list of them for the documentation.

Names follow Prometheus' conventions: base units, the unit last, `_total` for counters. What a
family has too many label values for is dropped and counted, never exposed: whoever scrapes it is
as easily overwhelmed as who serves it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.metrics import MetricWrapperBase

MOST_SERIES = 5000
"""Label sets of one family: a thousand clusters with a few quantiles each."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of durations."""

_UNITS = ("seconds", "ratio", "bytes", "requests", "requests_per_second")

M = TypeVar("M", bound=MetricWrapperBase)


class Family(NamedTuple):
    """name: as it is queried. kind: counter, gauge, histogram or info."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class Bounded(Generic[M]):
    """A family with at most `most` label sets. What comes after them is told to `rest` (a series
    of its own, or nobody), and `dropped` is called each time."""

    def __init__(
        self, family: M, rest: Callable[[], M], most: int, dropped: Callable[[], None]
    ) -> None:
        self._family = family
        self._rest = rest
        self._most = most
        self._dropped = dropped
        self._children: dict[tuple[str, ...], M] = {}

    def labels(self, *values: str) -> M:
        if (child := self._children.get(values)) is not None:
            return child
        if len(self._children) >= self._most:
            self._dropped()
            return self._rest()
        child = self._children[values] = self._family.labels(*values)
        return child

    def clear(self) -> None:
        """No series are left."""
        self._children.clear()
        self._family.clear()


class Families:
    """Makes families in one registry. most: label sets of each."""

    def __init__(self, registry: CollectorRegistry, most: int = MOST_SERIES) -> None:
        self._registry = registry
        self._most = most
        self.all: list[Family] = []
        self._dropped = Counter(
            *self._named(
                "eigenmesh_metrics_dropped",
                "counter",
                "Updates of series that are not exposed, since their metric has too many; counters "
                "and histograms have them in the series `other`",
                ("metric",),
            ),
            registry=registry,
        )

    def _named(
        self, name: str, kind: str, help: str, labels: Sequence[str]
    ) -> tuple[str, str, tuple[str, ...]]:
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        self.all.append(Family(name + suffix, kind, tuple(labels), help))
        return name, help, tuple(labels)

    def _bounded(self, family: M, name: str, rest: Callable[[], M]) -> Bounded[M]:
        return Bounded(family, rest, self._most, self._dropped.labels(name).inc)

    def info(self, name: str, help: str, /, **values: str) -> None:
        named = self._named(name, "info", help, tuple(values))
        Info(*named[:2], registry=self._registry).info(values)

    def counter(self, name: str, help: str) -> Counter:
        return Counter(*self._named(name, "counter", help, ()), registry=self._registry)

    def gauge(self, name: str, help: str) -> Gauge:
        named = self._named(name, "gauge", help, ())
        return Gauge(*named, registry=self._registry, unit=_unit(name))

    def histogram(self, name: str, help: str) -> Histogram:
        named = self._named(name, "histogram", help, ())
        return Histogram(*named, registry=self._registry, unit=_unit(name), buckets=SECONDS)

    def counters(self, name: str, help: str, *labels: str) -> Bounded[Counter]:
        family = Counter(*self._named(name, "counter", help, labels), registry=self._registry)
        return self._bounded(family, name, lambda: family.labels(*["other"] * len(labels)))

    def gauges(self, name: str, help: str, *labels: str) -> Bounded[Gauge]:
        named = self._named(name, "gauge", help, labels)
        family = Gauge(*named, registry=self._registry, unit=_unit(name))
        nobody = Gauge(name, help, registry=None)
        return self._bounded(family, name, lambda: nobody)

    def histograms(self, name: str, help: str, *labels: str) -> Bounded[Histogram]:
        named = self._named(name, "histogram", help, labels)
        family = Histogram(*named, registry=self._registry, unit=_unit(name), buckets=SECONDS)
        return self._bounded(family, name, lambda: family.labels(*["other"] * len(labels)))


def _unit(name: str) -> str:
    """For OpenMetrics, which states it on a line of its own; empty for a number without one."""
    return next((unit for unit in reversed(_UNITS) if name.endswith(f"_{unit}")), "")
