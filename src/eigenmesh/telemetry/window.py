"""The evidence of one observation window, and its likelihood under many candidate curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigenmesh.mesh import admitted_latency, blocked_fraction
from eigenmesh.mesh.curve import Array, pool_exponent
from eigenmesh.telemetry.transient import Candidates

TAILS = 8.0
"""Degrees of freedom of the residuals' Student t: an outlier costs only its logarithm."""

FULL = 50.0
"""Completions from which on a window counts as fully informative."""


REJECTING = 0.02
"""Fraction of the requests that a breaker turns away from which on the queue counts as cut."""
ALL = 0.999
"""Fraction turned away that is as much as can be concluded from."""
LONGEST = 20.0
"""Requests that queue for each server, at most."""
CUT_SPREAD, MEAN_SPREAD = 0.03, 0.2
"""How well (relative) the model of a cut queue tells what is let in, and the mean latency."""


@dataclass(frozen=True, slots=True)
class Window:
    """seconds: its length. load, throughput: requests/s. in_flight: requests at its end.

    mean: seconds that requests spent inside the window, per completion (see `history`); None when
    that is not known; blur: its relative error. weight: 0 to 1, how far it is to be believed.
    rejected: requests/s that Envoy's own breaker turned away. limit: how many requests it let in
    at once, where that is known.
    """

    seconds: float
    load: float
    throughput: float
    mean: float | None
    in_flight: float
    blur: float = 0.0
    weight: float = 1.0
    rejected: float = 0.0
    limit: float | None = None

    @property
    def start(self) -> float:
        """Requests in flight when it began: the end's, less what came, plus what went."""
        return max(0.0, self.in_flight - (self.load - self.throughput) * self.seconds)

    @property
    def completions(self) -> float:
        return self.throughput * self.seconds

    @property
    def information(self) -> float:
        """0 to 1: a window that says little makes little be forgotten."""
        return self.weight * min(1.0, self.completions / FULL)

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Window:
        # Windows of before do not know of rejections.
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})


def log_likelihood(candidates: Candidates, window: Window) -> Array:
    """Log probability density of what the window showed, for every candidate."""
    part = window.rejected / max(window.throughput + window.rejected, 1e-12)
    if part > REJECTING and window.mean is not None:
        if window.limit is not None:
            return window.weight * _held(candidates, window, window.limit, window.mean)
        return window.weight * _cut(candidates, window, part, window.mean)
    p = candidates.predict(
        window.start, window.load, window.seconds, window.completions, window.blur
    )
    log = _student(math.log1p(window.in_flight), p.count, p.count_spread)
    if window.mean is not None:
        log = log + _student(math.log(window.mean), p.mean, p.mean_spread)
    return window.weight * log


def _held(candidates: Candidates, window: Window, limit: float, mean: float) -> Array:
    """Of a queue that a known limit cuts: what it turned away and how long the rest took.

    A house that is full takes its size over the capacity, however much of that is waiting: what
    tells service from waiting is whether less is done when less is let in.
    """
    t0, capacity = candidates.t0, candidates.capacity
    arrivals = window.load + window.rejected
    part = min(window.rejected / arrivals, ALL)
    count = max(1.0, arrivals * window.seconds)
    relative = math.hypot(CUT_SPREAD, math.sqrt(part / (count * (1.0 - part))))
    turned = np.clip(blocked_fraction(arrivals, t0, capacity, limit), 0.0, ALL)
    log = _student(math.log1p(-part), np.log1p(-turned), np.full(t0.shape, relative))
    blur = math.hypot(MEAN_SPREAD, window.blur, max(1.0, window.completions) ** -0.5)
    latency = np.log(admitted_latency(arrivals, t0, capacity, limit))
    return log + _student(math.log(mean), latency, np.full(t0.shape, blur))


def _cut(candidates: Candidates, window: Window, part: float, mean: float) -> Array:
    """Of a queue that a breaker cuts: the part of the requests that it turned away says how long
    the queue may get, if the candidate is right; that says how long they should have taken.

    The limit itself is not known here, but it is no lower than what the cluster serves at once: a
    candidate of so many servers that it never had to turn away that much is wrong. So is one of
    so little capacity that it had to turn away more.
    """
    t0, capacity = candidates.t0, candidates.capacity
    arrivals = window.throughput + window.rejected
    rho = arrivals / capacity
    rho = np.where(np.abs(rho - 1.0) < 1e-3, 1.001, rho)
    servers = np.maximum(1.0, capacity * t0)
    least = np.maximum(0.0, 1.0 - 1.0 / rho) + 1e-6
    most = np.maximum(blocked_fraction(arrivals, t0, capacity, servers), least)
    part = min(part, ALL)
    turned = np.clip(part, least, np.minimum(most, ALL))
    count = max(1.0, arrivals * window.seconds)
    # Judged by what was let in: that is the throughput, however many came.
    relative = math.hypot(CUT_SPREAD, math.sqrt(part / (count * (1.0 - part + 1e-9))))
    log = _student(math.log1p(-part), np.log1p(-turned), np.full(rho.shape, relative))
    spread = (1.0 - part) * relative

    def latency(turned: Array) -> Array:
        """Logarithm of the mean: (1 - rho) rho^n / (1 - rho^(n+1)) = turned, solved for
        n = k + limit - servers."""
        turned = np.clip(turned, least, most)
        n = np.log(turned / np.maximum(1.0 - rho + turned * rho, 1e-12)) / np.log(rho)
        limit = servers + np.clip(n - pool_exponent(servers), 0.0, LONGEST * servers)
        out: Array = np.log(admitted_latency(arrivals, t0, capacity, limit))
        return out

    # Beyond the capacity a little less that is turned away is a much longer queue.
    unsure = 0.5 * np.abs(latency(turned - spread) - latency(turned + spread))
    blur = math.hypot(MEAN_SPREAD, window.blur, max(1.0, window.completions) ** -0.5)
    return log + _student(math.log(mean), latency(turned), np.hypot(blur, unsure))


_NORM = (
    math.lgamma((TAILS + 1.0) / 2.0) - math.lgamma(TAILS / 2.0) - 0.5 * math.log(TAILS * math.pi)
)


def _student(value: float, mean: Array, spread: Array) -> Array:
    z = (value - mean) / spread
    out: Array = _NORM - 0.5 * (TAILS + 1.0) * np.log1p(z * z / TAILS) - np.log(spread)
    return out
