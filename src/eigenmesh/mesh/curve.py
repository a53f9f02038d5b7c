"""Latency as a function of load.

The family is the many-server queue in Sakasegawa's approximation (H. Sakasegawa, "An
approximation formula L_q = a rho^b / (1 - rho)", Ann. Inst. Statist. Math. 29, 1977):

    T(load) = t0 * (1 + v * rho^(sqrt(2 (c + 1)) - 1) / (c (1 - rho)))
    rho = load / capacity,   c = capacity * t0   (the concurrency the cluster can serve)

With c = 1 and v = 1 it is the M/M/1 queue exactly. It is convex and increasing in the load
for every c >= 1, so two numbers, t0 and capacity, carry the whole curve.

Quantiles come from the same queue: a request waits with probability p = rho^(sqrt(2 (c + 1)) - 1)
for an exponential time of mean v / (capacity (1 - rho)), and is served for an exponential time of
mean t0 (the M/M/c sojourn time, D. Gross, C. M. Harris, "Fundamentals of Queueing Theory").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eigenmesh.mesh.errors import MeshError

Array = NDArray[np.float64]

RHO_MAX = 0.97
"""Above this utilisation the curve goes on as its tangent: finite, convex, increasing, so that
an overloaded plan still has a cost and a gradient that lead out of it."""


def pool_exponent(servers: ArrayLike) -> Array:
    """Sakasegawa's exponent: P(wait) is about rho^exponent on `servers` parallel slots."""
    return np.sqrt(2.0 * (np.asarray(servers, dtype=np.float64) + 1.0)) - 1.0


def latency(
    load: ArrayLike, t0: ArrayLike, capacity: ArrayLike, variability: ArrayLike = 1.0
) -> Array:
    """Mean latency in seconds; broadcasts over arrays. Loads beyond capacity follow the tangent."""
    load, t0, capacity, v = (
        np.asarray(x, dtype=np.float64) for x in (load, t0, capacity, variability)
    )
    servers = np.maximum(1.0, capacity * t0)
    exponent = pool_exponent(servers)
    rho = np.maximum(load, 0.0) / capacity
    inside = np.minimum(rho, RHO_MAX)
    wait = inside**exponent / (1.0 - inside)
    slope = RHO_MAX**exponent * (exponent / RHO_MAX + 1.0 / (1.0 - RHO_MAX)) / (1.0 - RHO_MAX)
    wait = wait + np.maximum(rho - RHO_MAX, 0.0) * slope
    out: Array = t0 * (1.0 + v * wait / servers)
    return out


def stretch(rho: ArrayLike, servers: ArrayLike, q: float, variability: ArrayLike = 1.0) -> Array:
    """Quantile q of the latency over its mean, at utilisations rho of up to RHO_MAX; broadcasts.

    For many curves at once what `LatencyCurve.quantile` is for one. Raises MeshError unless
    0 < q < 1.
    """
    if not 0.0 < q < 1.0:
        raise MeshError("quantile", q, "use a fraction between 0 and 1")
    rho, servers, v = (np.asarray(x, dtype=np.float64) for x in (rho, servers, variability))
    rho, servers, v = np.broadcast_arrays(np.minimum(rho, RHO_MAX), np.maximum(servers, 1.0), v)
    waits = rho ** pool_exponent(servers)
    # In units of t0 the service rate is 1; the singularity at equal rates is stepped around.
    start = servers * (1.0 - rho) / v
    start = np.where(np.abs(start - 1.0) < 1e-6, 1.0 + 1e-6, start)

    def above(times: Array) -> Array:
        served, started = np.exp(-times), np.exp(-start * times)
        return (1.0 - waits) * served + waits * (start * served - started) / (start - 1.0)

    # The sum of both times is below the sum of their quantiles at (1 - q) / 2.
    low, high = np.zeros(rho.shape), -math.log((1.0 - q) / 2.0) * (1.0 + 1.0 / start)
    for _ in range(45):
        middle = 0.5 * (low + high)
        beyond = above(middle) > 1.0 - q
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    out: Array = 0.5 * (low + high) / (1.0 + waits / start)
    return out


@dataclass(frozen=True, slots=True)
class LatencyCurve:
    """t0: seconds at no load. capacity: requests/s at which latency diverges.

    variability scales the waiting part: 1 for exponential service and Poisson arrivals.
    """

    t0: float
    capacity: float
    variability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("t0", "capacity", "variability"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise MeshError(f"curve.{name}", value, "must be a finite number above 0")

    @property
    def servers(self) -> float:
        """Concurrency that the cluster can serve without queueing (slots)."""
        return max(1.0, self.capacity * self.t0)

    def latency(self, load: float) -> float:
        return float(latency(load, self.t0, self.capacity, self.variability))

    def quantile(self, load: float, q: float) -> float:
        """Latency in seconds that a fraction q of the requests stays below; beyond RHO_MAX it
        grows as the mean does. Raises MeshError unless 0 < q < 1."""
        if not 0.0 < q < 1.0:
            raise MeshError("quantile", q, "use a fraction between 0 and 1")
        at = min(max(load, 0.0), RHO_MAX * self.capacity)
        rho = at / self.capacity
        waits: float = rho ** float(pool_exponent(self.servers))
        serve, start = 1.0 / self.t0, self.capacity * (1.0 - rho) / self.variability
        # A removable singularity where waiting is as long as service: step around it.
        if abs(start - serve) < 1e-6 * serve:
            start = serve * (1.0 + 1e-6)

        def above(seconds: float) -> float:
            served, started = math.exp(-serve * seconds), math.exp(-start * seconds)
            both = (start * served - serve * started) / (start - serve)
            return (1.0 - waits) * served + waits * both

        low, high = 0.0, -math.log1p(-q) * (1.0 / serve + 1.0 / start)
        while above(high) > 1.0 - q:
            low, high = high, 2.0 * high
        for _ in range(40):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if above(middle) > 1.0 - q else (low, middle)
        return 0.5 * (low + high) * self.latency(load) / self.latency(at)

    def utilisation(self, load: float) -> float:
        return load / self.capacity

    def in_flight(self, load: float) -> float:
        """Mean requests outstanding at this load (Little's law)."""
        return load * self.latency(load)


@dataclass(frozen=True, slots=True)
class CurveEstimate:
    """A learned curve and how sure the estimator is of it.

    t0_error, capacity_error: relative standard deviations (0.1 = 10%).
    windows: how many observation windows it rests on since the last change.
    changed_at: unix seconds of the last change that was noticed, None if none was.
    tails: quantile -> its measured latency over the curve's own, which takes service times for
    exponential; empty when no quantiles were measured.
    """

    curve: LatencyCurve
    t0_error: float
    capacity_error: float
    windows: int
    changed_at: float | None = None
    tails: Mapping[float, float] = field(default_factory=dict)

    def quantile(self, load: float, q: float) -> float:
        """Latency in seconds that a fraction q of the requests stays below; between measured
        quantiles the correction is interpolated, beyond them the nearest one's holds. Raises
        MeshError unless 0 < q < 1."""
        return self.curve.quantile(load, q) * self.tail(q)

    def tail(self, q: float) -> float:
        """What a quantile of the curve is to be multiplied by."""
        if not self.tails:
            return 1.0
        known = sorted(self.tails)
        factors = [math.log(self.tails[k]) for k in known]
        nines = [-math.log1p(-k) for k in known]
        return math.exp(float(np.interp(-math.log1p(-q), nines, factors)))

    def to_dict(self) -> dict[str, Any]:
        return {
            "t0": self.curve.t0,
            "capacity": self.curve.capacity,
            "variability": self.curve.variability,
            "t0_error": self.t0_error,
            "capacity_error": self.capacity_error,
            "windows": self.windows,
            "changed_at": self.changed_at,
            "tails": {str(q): factor for q, factor in self.tails.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CurveEstimate:
        return cls(
            LatencyCurve(data["t0"], data["capacity"], data["variability"]),
            data["t0_error"],
            data["capacity_error"],
            data["windows"],
            data["changed_at"],
            {float(q): factor for q, factor in data.get("tails", {}).items()},
        )
