"""The largest demand of late, and the mean: what a limit has to let in that is never to cut a
normal burst."""

from __future__ import annotations

import math
from collections.abc import Mapping

HALF = 600.0
"""Seconds after which a peak counts half."""
MEAN = 60.0
"""Seconds after which a demand counts half in the mean."""


class Peaks:
    """Of every route, in requests/s. Windows of a second show bursts that longer ones hide."""

    def __init__(self) -> None:
        self._peaks: dict[str, float] = {}
        self._means: dict[str, float] = {}
        self._time: float | None = None

    def update(self, demands: Mapping[str, float], now: float, window: float) -> None:
        """demands: of a window of so many seconds that ended `now` (unix seconds); as much of them
        as is no chance (two standard deviations less), or the largest would be chance alone."""
        passed = max(0.0, now - self._time) if self._time is not None else 0.0
        self._time = now
        keep, before = 0.5 ** (passed / HALF), 0.5 ** (passed / MEAN)
        for route in self._peaks.keys() | demands.keys():
            demand = demands.get(route, 0.0)
            # A window of no length is one without an answer.
            sure = max(0.0, demand - 2.0 * math.sqrt(demand / window)) if window > 0.0 else 0.0
            self._peaks[route] = max(sure, keep * self._peaks.get(route, 0.0))
            mean = self._means.get(route, demand)
            self._means[route] = before * mean + (1.0 - before) * demand

    def over(self, demands: Mapping[str, float]) -> dict[str, float]:
        """These demands, or the peak where it is above."""
        return {route: max(d, self._peaks.get(route, 0.0)) for route, d in demands.items()}

    def means(self, demands: Mapping[str, float]) -> dict[str, float]:
        """The mean demand of these routes in the last minutes; theirs where none is known."""
        return {route: self._means.get(route, d) for route, d in demands.items()}

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so much."""
        if self._time is not None:
            self._time += seconds
