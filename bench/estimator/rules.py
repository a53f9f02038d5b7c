"""Rules of thumb read as predictions of mean latency, from what the same windows showed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eigenmesh.mesh import ClusterObservation


@dataclass(frozen=True)
class Seen:
    """All windows as one. load: requests/s. mean, p99: seconds. in_flight: at the windows'
    ends."""

    load: float
    mean: float
    p99: float
    in_flight: float

    @classmethod
    def of(cls, windows: Sequence[ClusterObservation]) -> Seen:
        completed = sum(w.throughput for w in windows)
        return cls(
            sum(w.load for w in windows) / len(windows),
            sum(w.throughput * w.mean for w in windows if w.mean is not None) / completed,
            sum(w.throughput * w.quantiles[0.99] for w in windows if w.quantiles) / completed,
            sum(w.in_flight for w in windows) / len(windows),
        )


def constant(seen: Seen, load: float) -> float:
    """What was seen is what will be."""
    return seen.mean


def l3(seen: Seen, load: float) -> float:
    """L3's weight is 100 / ((in-flight/rps + 1)^2 * L) without errors: the inverse of a cost.

    That cost at another load, with the requests in flight grown in proportion to it (latency
    unchanged) and the rule's smoothed request rate still the old one, scaled to agree with the
    latency seen at the load seen.
    """
    outstanding = seen.in_flight / seen.load
    return seen.mean * ((outstanding * load / seen.load + 1.0) / (outstanding + 1.0)) ** 2


def mm1(seen: Seen, load: float) -> float:
    """One server whose rate follows from T = 1 / (rate - load); infinite beyond that rate."""
    rate = seen.load + 1.0 / seen.mean
    return 1.0 / (rate - load) if rate > load else float("inf")


RULES: dict[str, Callable[[Seen, float], float]] = {
    "constant": constant,
    "L3": l3,
    "M/M/1 from the mean": mm1,
}
