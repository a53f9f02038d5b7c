"""What the evidence says about one cluster's curve: a Bayesian grid over (log t0, log capacity).

The grid is recomputed around the mass, from the windows that are still remembered, when the mass
nears its edge or gets narrower than its step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.telemetry.transient import Candidates
from eigenmesh.telemetry.window import Window, log_likelihood

_T0_CELLS, _CAPACITY_CELLS = 40, 56
_NARROW, _EDGE_MASS = 0.8, 0.01
_REACH = 5.0
"""The grid spans this many standard deviations either side."""
_FINEST = 0.004
_FORGOTTEN, _MOST = 0.1, 120
"""Windows are dropped when they count less than this, or when there are more than that."""


@dataclass(frozen=True, slots=True)
class Prior:
    """Log-normal beliefs before the evidence: t0 in seconds, servers = capacity * t0."""

    t0: float
    servers: float
    t0_spread: float
    servers_spread: float

    def log(self, candidates: Candidates) -> Array:
        servers = np.log(candidates.capacity * candidates.t0)
        t0 = (np.log(candidates.t0) - math.log(self.t0)) / self.t0_spread
        c = (servers - math.log(self.servers)) / self.servers_spread
        # The family begins at one server.
        out: Array = np.where(servers < -0.1, -1e3, -0.5 * (t0 * t0 + c * c))
        return out

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Prior:
        return cls(**{name: data[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Summary:
    """The posterior in four numbers; spreads are standard deviations of logarithms."""

    t0: float
    capacity: float
    t0_spread: float
    capacity_spread: float


Spans = tuple[tuple[float, float], tuple[float, float]]
"""From and to, of log t0 and of log capacity."""


class Posterior:
    """The grid of one cluster.

    windows: the evidence, oldest first; at least one has a mean latency. memory: fully
    informative windows after which evidence counts 1/e. spans: where the grid was, if it was.
    """

    def __init__(
        self, prior: Prior, windows: Sequence[Window], memory: float, spans: Spans | None = None
    ) -> None:
        self.prior = prior
        self.windows = list(windows)
        self._forget = 1.0 - math.exp(-1.0 / memory)
        means = [w.mean for w in windows if w.mean is not None]
        t0 = math.log(means[0])
        capacity = math.log(max(0.5 / means[0], max(w.throughput for w in windows)))
        self._build(spans or ((t0 - 3.5, t0 + 0.7), (capacity - 0.7, capacity + 5.0)))
        if spans is None:
            self._refocus()

    @property
    def spans(self) -> Spans:
        return (
            (float(self._t0[0]), float(self._t0[-1])),
            (float(self._capacity[0]), float(self._capacity[-1])),
        )

    def _build(self, spans: Spans) -> None:
        self._t0 = np.linspace(*spans[0], _T0_CELLS)
        self._capacity = np.linspace(*spans[1], _CAPACITY_CELLS)
        a, b = np.meshgrid(self._t0, self._capacity, indexing="ij")
        self._candidates = Candidates(np.exp(a), np.exp(b))
        self._evidence = np.zeros_like(a)
        for window in self.windows:
            self._absorb(window, self.likelihood(window))

    def likelihood(self, window: Window) -> Array:
        """Log likelihood of a window over the grid."""
        return log_likelihood(self._candidates, window)

    def _keep(self, window: Window) -> float:
        return 1.0 - self._forget * window.information

    def _absorb(self, window: Window, likelihood: Array) -> None:
        self._evidence *= self._keep(window)
        self._evidence += likelihood

    def update(self, window: Window) -> float:
        """Learns from a window. Returns the log probability it had before that."""
        likelihood = self.likelihood(window)
        top = float(likelihood.max())
        expected = top + math.log(float((self.mass() * np.exp(likelihood - top)).sum()) + 1e-300)
        self.windows.append(window)
        kept = 1.0
        for index in range(len(self.windows) - 1, -1, -1):
            kept *= self._keep(self.windows[index])
            if kept < _FORGOTTEN or len(self.windows) - index > _MOST:
                del self.windows[:index]
                break
        self._absorb(window, likelihood)
        self._refocus()
        return expected

    def mass(self) -> Array:
        """Probability by (t0, capacity); sums to 1."""
        log = self._evidence + self.prior.log(self._candidates)
        mass: Array = np.exp(log - log.max())
        mass /= mass.sum()
        return mass

    def _refocus(self) -> None:
        for _ in range(6):
            mass = self.mass()
            t0, t0_moved = _span(self._t0, mass.sum(axis=1))
            capacity, capacity_moved = _span(self._capacity, mass.sum(axis=0))
            if not (t0_moved or capacity_moved):
                return
            self._build((t0, capacity))

    def summary(self) -> Summary:
        mass = self.mass()
        _, capacity_spread = _moments(self._capacity, mass.sum(axis=0))
        # The mean of seconds per request: with little evidence, careful about what is not known.
        capacity = -math.log(float(np.exp(-self._capacity) @ mass.sum(axis=0)))
        t0_spread = _moments(self._t0, mass.sum(axis=1))[1]
        # t0 is taken as it goes with that capacity: the two are correlated along a bent ridge,
        # and the pair of their separate means may explain nothing that was seen.
        near = np.exp(-0.5 * ((self._capacity - capacity) / max(0.3 * capacity_spread, 1e-3)) ** 2)
        column = mass @ near
        if not column.sum() > 0:
            column = mass.sum(axis=1)
        t0, _ = _moments(self._t0, column / column.sum())
        return Summary(math.exp(t0), math.exp(capacity), t0_spread, capacity_spread)


def _moments(axis: Array, mass: Array) -> tuple[float, float]:
    mean = float(axis @ mass)
    step = float(axis[1] - axis[0])
    # A mass within one cell is as wide as the cell.
    return mean, math.sqrt(float((axis - mean) ** 2 @ mass) + step * step / 12.0)


def _span(axis: Array, mass: Array) -> tuple[tuple[float, float], bool]:
    """The span that this axis should have, and whether that is worth a new grid."""
    mean, spread = _moments(axis, mass)
    step = float(axis[1] - axis[0])
    low, high = float(axis[0]), float(axis[-1])
    narrow = spread < _NARROW * step and step > _FINEST
    edge = mass[:2].sum() > _EDGE_MASS or mass[-2:].sum() > _EDGE_MASS
    if not (narrow or edge):
        return (low, high), False
    reach = _REACH * max(spread, _FINEST)
    if edge:
        reach = max(reach, 0.6 * (high - low))
    return (mean - reach, mean + reach), True
