"""Mean and quantiles from Envoy's latency histograms.

Envoy counts whole milliseconds, rounded down, in bins of two significant digits, and a bucket's
count takes in the whole bin that its bound falls in: `le="50"` are latencies below 51 ms,
`le="100"` those below 110. A histogram's sum adds the bins' middles, so that rounding down costs
nothing from 10 ms on, where bins are a millisecond or wider; below that it costs 0.45 ms.
Measured on Envoy 1.40 with upstreams of known latency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_FINE = 10.0
_LOST = 0.45


@dataclass(frozen=True, slots=True)
class Quantile:
    """seconds. low, high: edges of the bucket that it lies in (the resolution); high is infinite
    in the last bucket, and value is then its lower edge."""

    value: float
    low: float
    high: float


def edge(bound: float) -> float:
    """Milliseconds below which all latencies in the bucket `le=bound` are (bound in ms)."""
    if math.isinf(bound) or bound < 1.0:
        return max(1.0, bound)
    width = max(1.0, 10.0 ** (math.floor(math.log10(bound)) - 1))
    return (math.floor(bound / width) + 1) * width


def quantile(buckets: Mapping[float, float], q: float) -> Quantile | None:
    """By linear interpolation in cumulative counts by upper bound (ms); None without any count."""
    points = _points(buckets)
    if not points or points[-1][1] <= 0:
        return None
    rank = q * points[-1][1]
    low = below = 0.0
    for high, upto in points:
        if upto >= rank and upto > below:
            if math.isinf(high):
                return Quantile(low / 1e3, low / 1e3, math.inf)
            value = low + (high - low) * max(0.0, rank - below) / (upto - below)
            # Rounding must not carry it beyond its bucket, and so beyond a higher quantile.
            return Quantile(min(value, high) / 1e3, low / 1e3, high / 1e3)
        low, below = high, max(below, upto)
    return None


def mean(total: float, count: float, buckets: Mapping[float, float]) -> float | None:
    """Mean latency in seconds; None without any count. total: the histogram's sum in ms."""
    if count <= 0:
        return None
    rough = max(0.0, total / count)
    return (rough + _LOST * _share_below(_FINE, buckets, rough)) / 1e3


def _points(buckets: Mapping[float, float]) -> list[tuple[float, float]]:
    """(edge in ms, cumulative count), both made monotone."""
    points: list[tuple[float, float]] = []
    most = 0.0
    for bound in sorted(buckets):
        most = max(most, buckets[bound])
        points.append((edge(bound), most))
    return points


def _share_below(limit: float, buckets: Mapping[float, float], rough: float) -> float:
    """Fraction of latencies below `limit` ms."""
    points = _points(buckets)
    if not points or points[-1][1] <= 0:
        return 1.0 if rough < limit else 0.0
    low = below = 0.0
    for high, upto in points:
        if high >= limit:
            inside = 0.0 if math.isinf(high) else (limit - low) / (high - low)
            return (below + (upto - below) * inside) / points[-1][1]
        low, below = high, upto
    return 1.0
