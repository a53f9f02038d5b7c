"""Learning every cluster's latency curve from the stream of observations.

Pure and deterministic: time comes with the observations. See `transient` for what a curve
predicts of a window, `posterior` for how windows are weighed, `change` for when they are dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eigenmesh.mesh import ClusterObservation, CurveEstimate, LatencyCurve, Observation
from eigenmesh.telemetry.change import ChangeDetector
from eigenmesh.telemetry.history import KEPT, Span, inside, total_age
from eigenmesh.telemetry.posterior import Posterior, Prior
from eigenmesh.telemetry.tails import Tails
from eigenmesh.telemetry.window import REJECTING, Window


@dataclass(frozen=True, slots=True)
class Tuning:
    """How fast is learned and forgotten.

    memory: windows after which evidence counts 1/e. threshold: log probability ratio from which
    on a change is believed. worst_success: windows with a lower success rate say nothing about
    the curve (fast errors are not speed). t0_floor, capacity_floor: relative errors that remain
    however much is seen, because the family is an approximation.
    """

    memory: float = 25.0
    threshold: float = 8.5
    worst_success: float = 0.8
    t0_floor: float = 0.02
    capacity_floor: float = 0.03


Limits = Mapping[str, float]
MOSTLY_OUT = 1.25
"""Times the limit: what is still in flight of a larger one."""


class _Learner:
    """One cluster. mean: the first mean latency that was seen, in seconds."""

    def __init__(self, mean: float, posterior: Posterior, tuning: Tuning) -> None:
        self.mean = mean
        self.tuning = tuning
        self.count = 1
        self.changed_at: float | None = None
        self.tails = Tails(tuning.memory)
        self._follow(posterior)

    def _follow(self, posterior: Posterior) -> None:
        self.posterior = posterior
        self.summary = posterior.summary()
        self.detector = ChangeDetector(self.summary.t0, self.summary.capacity)

    @property
    def estimate(self) -> CurveEstimate:
        s = self.summary
        return CurveEstimate(
            LatencyCurve(s.t0, s.capacity),
            math.hypot(s.t0_spread, self.tuning.t0_floor),
            math.hypot(s.capacity_spread, self.tuning.capacity_floor),
            self.count,
            self.changed_at,
            self.tails.factors,
        )

    def learn(self, window: Window, time: float) -> None:
        before = self.summary
        self.detector.follow(before.t0, before.capacity)
        expected = self.posterior.update(window)
        self.count += 1
        if self.detector.add(window, expected) > self.tuning.threshold:
            recent = self.posterior.windows[-self.detector.since() :]
            if any(w.mean is not None for w in recent):
                # The new upstream resembles the old one; beyond that only what it showed counts.
                prior = Prior(before.t0, max(1.0, before.t0 * before.capacity), 0.5, 0.7)
                self.count = len(recent)
                self.changed_at = time
                self._follow(Posterior(prior, recent, self.tuning.memory))
                return
        self.summary = self.posterior.summary()

    def to_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "count": self.count,
            "changed_at": self.changed_at,
            "prior": self.posterior.prior.to_dict(),
            "spans": self.posterior.spans,
            "windows": [w.to_dict() for w in self.posterior.windows],
            "recent": self.detector.to_list(),
            "tails": self.tails.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tuning: Tuning) -> _Learner:
        windows = [Window.from_dict(w) for w in data["windows"]]
        (t0, t1), (c0, c1) = data["spans"]
        prior = Prior.from_dict(data["prior"])
        learner = cls(
            data["mean"], Posterior(prior, windows, tuning.memory, ((t0, t1), (c0, c1))), tuning
        )
        learner.count = data["count"]
        learner.changed_at = data["changed_at"]
        learner.tails = Tails.from_dict(data.get("tails", {}), tuning.memory)
        learner.detector = ChangeDetector.from_list(
            learner.summary.t0, learner.summary.capacity, data["recent"]
        )
        return learner


class Estimator:
    """One curve per cluster, learned on line."""

    def __init__(self, tuning: Tuning | None = None) -> None:
        self._tuning = tuning or Tuning()
        self._learners: dict[str, _Learner] = {}
        self._spans: dict[str, list[Span]] = {}
        self._time = -math.inf

    @property
    def estimates(self) -> Mapping[str, CurveEstimate]:
        """Cluster -> what was learned; a cluster that nothing is known of is absent."""
        return {name: learner.estimate for name, learner in self._learners.items()}

    def update(
        self,
        observation: Observation,
        noise: Mapping[str, float] | None = None,
        limits: Limits | None = None,
    ) -> Mapping[str, CurveEstimate]:
        """Learns from one window; observations come in the order of time.

        noise: cluster -> relative error of its mean latency beyond what its load explains. limits:
        cluster -> requests that were let in at once, where that is known and was the same in all
        of the window.
        """
        gap = abs(observation.time - observation.window - self._time)
        if gap > 0.5 * observation.window:
            self._spans.clear()
        self._time = observation.time
        for name, seen in observation.clusters.items():
            if seen.throughput <= 0 and seen.load <= 0:
                continue
            spans = self._spans.setdefault(name, [])
            limit = (limits or {}).get(name)
            window = self._window(seen, observation.window, spans, limit)
            spans.insert(0, (seen.load, observation.window))
            del spans[KEPT:]
            if window is not None:
                if noise and name in noise:
                    window = replace(window, blur=math.hypot(window.blur, noise[name]))
                self._learn(name, window, observation.time)
            # Fast errors are not speed, and tails are quicker spoilt than means.
            if name in self._learners and seen.success_rate >= self._tuning.worst_success:
                learner = self._learners[name]
                learner.tails.learn(seen.quantiles, seen.load, learner.estimate.curve)
        return self.estimates

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what `from_dict` resumes from."""
        return {
            "time": self._time if math.isfinite(self._time) else None,
            "spans": {name: list(spans) for name, spans in self._spans.items()},
            "clusters": {name: learner.to_dict() for name, learner in self._learners.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tuning: Tuning | None = None) -> Estimator:
        """Goes on where `to_dict` stood. Raises KeyError or TypeError for anything else."""
        estimator = cls(tuning)
        estimator._time = -math.inf if data["time"] is None else data["time"]
        estimator._spans = {
            name: [(load, seconds) for load, seconds in spans]
            for name, spans in data["spans"].items()
        }
        estimator._learners = {
            name: _Learner.from_dict(one, estimator._tuning)
            for name, one in data["clusters"].items()
        }
        return estimator

    def _learn(self, name: str, window: Window, time: float) -> None:
        learner = self._learners.get(name)
        if learner is not None:
            if learner.changed_at is None:
                learner.posterior.prior = self._prior(name, learner.mean)
            learner.learn(window, time)
        elif window.mean is not None:
            posterior = Posterior(self._prior(name, window.mean), [window], self._tuning.memory)
            self._learners[name] = _Learner(window.mean, posterior, self._tuning)

    def _window(
        self, seen: ClusterObservation, seconds: float, spans: list[Span], limit: float | None
    ) -> Window | None:
        margin = 1.0 - self._tuning.worst_success
        weight = max(0.0, 1.0 - (1.0 - seen.success_rate) / margin)
        if weight <= 0.0:
            return None
        window = Window(
            seconds,
            seen.load,
            seen.throughput,
            None,
            seen.in_flight,
            weight=weight,
            rejected=seen.breaker_errors,
            limit=limit,
        )
        turned_away = seen.breaker_errors > REJECTING * (seen.load + seen.breaker_errors)
        if turned_away and limit is not None and window.start > MOSTLY_OUT * limit:
            # What is left of a larger house has nothing to do with this one.
            return None
        if seen.mean is None:
            return window
        now = (seen.load, seconds)
        mean, blur = inside(
            seen.mean,
            window.completions,
            total_age(window.start, spans or [now]),
            total_age(window.in_flight, [now, *spans]),
        )
        return replace(window, mean=mean, blur=blur)

    def _prior(self, name: str, mean: float) -> Prior:
        """Before a cluster says more itself, it resembles the others of its mesh."""
        others = [
            (1.0 / (s.t0_spread**2 + 0.3**2), math.log(s.t0))
            for other, s in ((n, x.summary) for n, x in self._learners.items())
            if other != name and s.t0_spread < 0.3
        ]
        if not others:
            return Prior(0.8 * mean, 6.0, 1.0, 1.2)
        centre = sum(w * x for w, x in others) / sum(w for w, _ in others)
        return Prior(math.exp(centre), 6.0, 0.7, 1.2)
