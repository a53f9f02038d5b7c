"""What one window should show, for many candidate curves at once.

A curve says what a queue does after it has settled. A window of two seconds may start with a
backlog, or in one that overload is still building. Between the two stands the pointwise
stationary fluid flow approximation (W.-P. Wang, D. Tipper, S. Banerjee, "A simple approximation
for modeling nonstationary queues", INFOCOM 1996): the mean number in the system L follows

    dL/dt = load - capacity * u(L)

with u(L) the utilisation at which the stationary curve has L requests in flight. Started from
the in-flight requests that were counted at the start of the window, it gives the settled curve
when the queue is quick, a growing line under overload and a falling one while a backlog drains:
throughput then is the capacity, and latency is history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from eigenmesh.mesh.curve import Array, pool_exponent

STEPS = 8
"""Integration steps per window."""

_ROW = 0.02  # step of the table in log(servers)
_ROWS = 451  # up to about 8,000 servers
_NODES = 512  # steps of the table in L / (L + servers)


@dataclass(frozen=True, slots=True)
class Prediction:
    """For every candidate curve: what the window's mean latency and last in-flight count are.

    Both are taken for log-normal: `mean` is the expected logarithm of the mean latency in seconds
    and `mean_spread` its standard deviation; `count`, `count_spread` are those of the requests
    in flight plus one.
    """

    mean: Array
    mean_spread: Array
    count: Array
    count_spread: Array


@cache
def _utilisations() -> Array:
    """u by (log servers, L / (L + servers)), the curve turned inside out."""
    servers = np.exp(_ROW * np.arange(_ROWS))[:, None]
    rho = 1.0 - np.logspace(0.0, -7.0, 4000)
    in_flight = servers * rho + rho ** (pool_exponent(servers) + 1.0) / (1.0 - rho)
    nodes = np.linspace(0.0, 1.0, _NODES + 1)
    table = np.array(
        [
            np.interp(nodes, row / (row + c), rho)
            for row, c in zip(in_flight, servers[:, 0], strict=True)
        ]
    )
    table[:, -1] = 1.0
    return table


class Candidates:
    """Curves by the thousand: t0 (seconds) and capacity (requests/s), arrays of one shape."""

    def __init__(self, t0: Array, capacity: Array) -> None:
        self.t0 = t0
        self.capacity = capacity
        self.servers = np.maximum(1.0, capacity * t0)
        self.exponent = pool_exponent(self.servers)
        row = np.rint(np.log(self.servers) / _ROW).astype(np.intp)
        self._row = np.minimum(row, _ROWS - 1) * (_NODES + 1)

    def utilisation(self, in_flight: Array) -> tuple[Array, Array]:
        """u(L) and its derivative."""
        total = in_flight + self.servers
        x = in_flight / total * _NODES
        node = np.minimum(x.astype(np.intp), _NODES - 1)
        flat = _utilisations().ravel()
        low = flat.take(self._row + node)
        rise = flat.take(self._row + node + 1) - low
        return low + rise * (x - node), rise * _NODES * self.servers / (total * total)

    def settled(self, load: float) -> Array:
        """In-flight requests of the settled queue; infinite at and beyond capacity."""
        rho = np.minimum(load / self.capacity, 1.0 - 1e-9)
        level = self.servers * rho + rho ** (self.exponent + 1.0) / (1.0 - rho)
        return np.where(load < self.capacity, level, np.inf)

    def predict(
        self, start: float, load: float, window: float, completions: float, blur: float = 0.0
    ) -> Prediction:
        """The window that began with `start` requests in flight and saw `load` arrivals/s.

        completions: how many requests the mean latency averages. blur: relative standard
        deviation of the measurement itself.
        """
        dt = window / STEPS
        goal = self.settled(load)
        level = np.full_like(self.capacity, start)
        queue = np.zeros_like(level)
        busy = np.zeros_like(level)
        u, slope = self.utilisation(level)
        for _ in range(STEPS):
            before = np.maximum(level - self.servers * u, 0.0), u
            stiff = np.maximum(self.capacity * slope * dt, 1e-9)
            step = (load - self.capacity * u) * dt * -np.expm1(-stiff) / stiff
            # A settling queue does not overshoot its goal, however long the step.
            moved = np.maximum(level + step, 0.0)
            level = np.where(level > goal, np.maximum(moved, goal), np.minimum(moved, goal))
            u, slope = self.utilisation(level)
            queue += 0.5 * (before[0] + np.maximum(level - self.servers * u, 0.0))
            busy += 0.5 * (before[1] + u)
        u_mean = np.maximum(busy / STEPS, 1e-9)
        ratio = window / self._relaxation(u_mean)
        # The load is the one that was counted, noise included, and the curve is bent upwards:
        # without this a queue that settles within the window would be charged for the noise of
        # its arrivals twice.
        wait = queue / STEPS / (self.capacity * u_mean) * (1.0 - ratio / (1.0 + ratio) ** 2)
        mean = self.t0 + wait

        # How far a window strays from the expectation. Service times are a sample; the queue is
        # taken for an Ornstein-Uhlenbeck process with the stationary variance and relaxation
        # time of a queue at this utilisation, observed from a known start. In a deep backlog
        # that is Brownian motion with the variance of the departures, as it should be.
        share = 2.0 / ratio - (3.0 - 4.0 * np.exp(-ratio) + np.exp(-2.0 * ratio)) / ratio**2
        variance = self.t0**2 / max(completions, 1.0)
        variance = variance + wait * wait * self._burst(u_mean) * np.maximum(share, 0.0)
        relative = variance / (mean * mean) + _MODEL_ERROR**2 + blur**2
        spread = np.sqrt(np.log1p(relative))

        end_queue = np.maximum(level - self.servers * u, 0.0)
        swing = end_queue * end_queue * self._burst(u)
        swing = swing * -np.expm1(-2.0 * window / self._relaxation(u))
        count = np.log1p(level)
        count_spread = np.sqrt(
            np.log1p((self.servers * u + swing + 1.0) / ((level + 1.0) * (level + 1.0)))
        )
        return Prediction(
            np.log(mean) - 0.5 * spread * spread,
            spread,
            count - 0.5 * count_spread * count_spread,
            count_spread,
        )

    def _relaxation(self, u: Array) -> Array:
        """Seconds in which the queue forgets, at utilisation u."""
        free = np.maximum(1.0 - u, 1e-4)
        return (1.0 + u) / (self.capacity * free * free)

    def _burst(self, u: Array) -> Array:
        """Variance over squared mean of a queue that is empty but with probability u^exponent."""
        return 2.5 / np.maximum(u**self.exponent, 1e-6) - 1.5


_MODEL_ERROR = 0.03
"""Relative: the family is an approximation, and histograms count whole milliseconds."""
