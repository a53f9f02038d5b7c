"""Latency as a function of load.

The family is the many-server queue in Sakasegawa's approximation (H. Sakasegawa, "An
approximation formula L_q = a rho^b / (1 - rho)", Ann. Inst. Statist. Math. 29, 1977):

    T(load) = t0 * (1 + v * rho^(sqrt(2 (c + 1)) - 1) / (c (1 - rho)))
    rho = load / capacity,   c = capacity * t0   (the concurrency the cluster can serve)

With c = 1 and v = 1 it is the M/M/1 queue exactly. It is convex and increasing in the load
for every c >= 1, so two numbers, t0 and capacity, carry the whole curve.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    curve: LatencyCurve
    t0_error: float
    capacity_error: float
    windows: int
    changed_at: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "t0": self.curve.t0,
            "capacity": self.curve.capacity,
            "variability": self.curve.variability,
            "t0_error": self.t0_error,
            "capacity_error": self.capacity_error,
            "windows": self.windows,
            "changed_at": self.changed_at,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CurveEstimate:
        return cls(
            LatencyCurve(data["t0"], data["capacity"], data["variability"]),
            data["t0_error"],
            data["capacity_error"],
            data["windows"],
            data["changed_at"],
        )
