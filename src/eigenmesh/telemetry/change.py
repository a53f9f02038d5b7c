"""Noticing that an upstream is no longer the one that was learned.

After every window two stories of the last k windows are compared, for every small k: the curve
that was learned still holds, or another one took its place k windows ago. The logarithm of their
probability ratio (a Bayes factor) is the evidence for a change. Under the first story it exceeds
h with probability below exp(-h), so that the threshold is also a bound on false alarms. A test
of residuals alone would see an upstream slow down, but hardly see it recover: there the sign is
that the windows have become steadier as well as faster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.telemetry.transient import Candidates
from eigenmesh.telemetry.window import Window, log_likelihood

LONGEST = 8
"""Windows back at which a change is still looked for; older ones are left to forgetting."""

SHORTEST = 2
"""A single odd window is an outlier, not a change."""

T0_SPREAD, CAPACITY_SPREAD = 0.4, 0.5
"""How far changes go: standard deviations of the logarithms."""

_CELLS, _REACH, _DRIFT = 41, 1.4, 0.1


class ChangeDetector:
    """Of one cluster, around the curve (t0, capacity) that is being followed."""

    def __init__(self, t0: float, capacity: float) -> None:
        self._recent: list[tuple[Window, float]] = []
        self._likelihoods: list[Array] = []
        self._centre(t0, capacity)

    def _centre(self, t0: float, capacity: float) -> None:
        self._t0, self._capacity = t0, capacity
        axis = np.linspace(-_REACH, _REACH, _CELLS)
        a, b = np.meshgrid(axis, axis, indexing="ij")
        self._candidates = Candidates(t0 * np.exp(a), capacity * np.exp(b))
        log = -0.5 * ((a / T0_SPREAD) ** 2 + (b / CAPACITY_SPREAD) ** 2)
        self._prior = log - _log_sum(log)
        self._likelihoods = [log_likelihood(self._candidates, w) for w, _ in self._recent]

    def follow(self, t0: float, capacity: float) -> None:
        """The estimate has moved to here; changes are changes from here."""
        if max(abs(math.log(t0 / self._t0)), abs(math.log(capacity / self._capacity))) > _DRIFT:
            self._centre(t0, capacity)

    def add(self, window: Window, expected: float) -> float:
        """Takes in a window; `expected` is its log probability under the learned curve.

        Returns the evidence for a change: logarithm of the probability ratio.
        """
        self._recent = [*self._recent, (window, expected)][-LONGEST:]
        self._likelihoods.append(log_likelihood(self._candidates, window))
        self._likelihoods = self._likelihoods[-LONGEST:]
        return max((evidence for evidence, _ in self._tests()), default=-math.inf)

    def since(self) -> int:
        """How many windows the best story with a change gives to the new upstream."""
        return max(self._tests(), default=(0.0, 0))[1]

    def _tests(self) -> list[tuple[float, int]]:
        changed, steady = self._prior, 0.0
        tests = []
        for back in range(1, len(self._recent) + 1):
            changed = changed + self._likelihoods[-back]
            steady += self._recent[-back][1]
            if back >= SHORTEST:
                tests.append((_log_sum(changed) - steady, back))
        return tests

    def to_list(self) -> list[dict[str, Any]]:
        return [{"window": w.to_dict(), "expected": e} for w, e in self._recent]

    @classmethod
    def from_list(cls, t0: float, capacity: float, data: list[Mapping[str, Any]]) -> ChangeDetector:
        detector = cls(t0, capacity)
        detector._recent = [(Window.from_dict(d["window"]), d["expected"]) for d in data]
        detector._centre(t0, capacity)
        return detector


def _log_sum(log: Array) -> float:
    top = float(log.max())
    return top + math.log(float(np.exp(log - top).sum()))
