"""The demand of the next window.

The last value is the best forecast of a demand that wanders, an average that of a demand that is
steady but for the chance of single arrivals. Several exponential averages run side by side, the
last value among them, and the one whose recent squared errors are least gives the forecast (R. G.
Brown's exponential smoothing, 1959, with the smoothing constant chosen by what it was worth). A
value that the arrivals' own noise cannot explain is a step: every average starts from it anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

GAINS = (1.0, 0.5, 0.25, 0.1)
"""Share of the newest value in each average; 1 is the last value."""

KEEP = 0.9
"""How much of a squared error counts one window later."""

STEP = 4.5
"""Standard deviations of a Poisson count from which on a change is a step."""


class _Route:
    def __init__(self, value: float) -> None:
        self.levels = [value] * len(GAINS)
        self.errors = [0.0] * len(GAINS)

    @property
    def forecast(self) -> float:
        return self.levels[min(range(len(GAINS)), key=lambda i: self.errors[i])]

    def learn(self, value: float, window: float) -> None:
        # Counts have at least the noise of one arrival: rates near 0 make no steps.
        noise = math.sqrt(max(self.forecast, value, 1.0 / window) / window)
        step = abs(value - self.forecast) > STEP * noise
        for i, gain in enumerate(GAINS):
            error = value - self.levels[i]
            self.levels[i] = value if step else self.levels[i] + gain * error
            # What nobody could know is held against nobody.
            self.errors[i] = KEEP * self.errors[i] + (0.0 if step else error * error)


class Forecast:
    """Of every route. Pure: values come with the windows that they were counted in."""

    def __init__(self) -> None:
        self._routes: dict[str, _Route] = {}

    def update(self, demands: Mapping[str, float], window: float) -> Mapping[str, float]:
        """demands: route -> requests/s in the window of so many seconds that just ended.

        Returns the same routes with what is expected of the next window.
        """
        for name, value in demands.items():
            if name in self._routes:
                self._routes[name].learn(value, window)
            else:
                self._routes[name] = _Route(value)
        return {name: self._routes[name].forecast for name in demands}
