"""How a cluster's quantiles differ from those of a queue with exponential service times.

For every quantile the measured latencies of the remembered windows are summed, and those that the
curve has at the same loads; the ratio of the sums is the correction. Sums, since the mean of the
ratios would let windows with hardly a tail count as much as those that make it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from eigenmesh.mesh import LatencyCurve

FULLEST = 0.95
"""Utilisation from which on a window shows a backlog rather than a settled queue."""


class Tails:
    """Of one cluster. memory: windows after which one counts 1/e."""

    def __init__(self, memory: float) -> None:
        self._keep = math.exp(-1.0 / memory)
        self._sums: dict[float, tuple[float, float]] = {}

    @property
    def factors(self) -> Mapping[float, float]:
        """Quantile -> measured latency over the curve's."""
        return {q: seen / modelled for q, (seen, modelled) in self._sums.items()}

    def learn(self, quantiles: Mapping[float, float], load: float, curve: LatencyCurve) -> None:
        """quantiles: q -> seconds, of one window with `load` requests/s."""
        if load >= FULLEST * curve.capacity:
            return
        for q, seconds in quantiles.items():
            if 0.0 < q < 1.0 and math.isfinite(seconds) and seconds > 0.0:
                seen, modelled = self._sums.get(q, (0.0, 0.0))
                self._sums[q] = (
                    self._keep * seen + seconds,
                    self._keep * modelled + curve.quantile(load, q),
                )

    def to_dict(self) -> dict[str, Any]:
        return {str(q): list(sums) for q, sums in self._sums.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], memory: float) -> Tails:
        tails = cls(memory)
        tails._sums = {float(q): (seen, modelled) for q, (seen, modelled) in data.items()}
        return tails
