"""The evidence of one observation window, and its likelihood under many candidate curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.telemetry.transient import Candidates

TAILS = 8.0
"""Degrees of freedom of the residuals' Student t: an outlier costs only its logarithm."""

FULL = 50.0
"""Completions from which on a window counts as fully informative."""


@dataclass(frozen=True, slots=True)
class Window:
    """seconds: its length. load, throughput: requests/s. in_flight: requests at its end.

    mean: seconds that requests spent inside the window, per completion (see `history`); None when
    that is not known; blur: its relative error. weight: 0 to 1, how far it is to be believed.
    """

    seconds: float
    load: float
    throughput: float
    mean: float | None
    in_flight: float
    blur: float = 0.0
    weight: float = 1.0

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
        return cls(**{name: data[name] for name in cls.__slots__})


def log_likelihood(candidates: Candidates, window: Window) -> Array:
    """Log probability density of what the window showed, for every candidate."""
    p = candidates.predict(
        window.start, window.load, window.seconds, window.completions, window.blur
    )
    log = _student(math.log1p(window.in_flight), p.count, p.count_spread)
    if window.mean is not None:
        log = log + _student(math.log(window.mean), p.mean, p.mean_spread)
    return window.weight * log


_NORM = (
    math.lgamma((TAILS + 1.0) / 2.0) - math.lgamma(TAILS / 2.0) - 0.5 * math.log(TAILS * math.pi)
)


def _student(value: float, mean: Array, spread: Array) -> Array:
    z = (value - mean) / spread
    out: Array = _NORM - 0.5 * (TAILS + 1.0) * np.log1p(z * z / TAILS) - np.log(spread)
    return out
