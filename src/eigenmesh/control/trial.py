"""Plans on trial: what they cost against what the last good plan would have cost.

The arithmetic is `guard.verify`'s; here it gets its numbers from observations and curves. One
number a window: mean latency, and what was turned away or failed at its price (`error_price`).
Predictions are made with the curves of when the good plan was left, at the demand of the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from eigenmesh.guard.verify import Verifier
from eigenmesh.mesh import (
    ENVOY_DEFAULT_LIMITS,
    Bounds,
    Check,
    CurveEstimate,
    GuardPolicy,
    ObjectivePolicy,
    Observation,
    Plan,
    Topology,
    Verdict,
    VerifyPolicy,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem

_OVERLAP = 0.25
"""Of a window: as much of it may be of before a departure, or have been counted already."""
_MORE = 1.01
"""Factor from which on a cluster has more load than under the good plan."""
_ANY = GuardPolicy(bounds=Bounds(0.0, 1.0), probe_floor=0.0, min_limit=1, max_limit=1 << 30)


class Trial:
    """good: the last plan that was accepted. policy, objective: as in the settings."""

    def __init__(
        self, topology: Topology, good: Plan, policy: VerifyPolicy, objective: ObjectivePolicy
    ) -> None:
        self._topology = topology
        # One scenario: the demand that there was.
        self._objective = replace(objective, scenarios=(objective.scenarios[0],), quantile=None)
        self._verifier = Verifier(good, policy)
        self._curves: Mapping[str, CurveEstimate] = {}
        self._failing: Mapping[str, float] = {}
        self._counted = self._departed = 0.0
        self._excess: dict[str, float] = {}

    @property
    def good(self) -> Plan:
        return self._verifier.good

    @property
    def on_trial(self) -> bool:
        return self._verifier.on_trial

    def depart(self, now: float, curves: Mapping[str, CurveEstimate] | None = None) -> None:
        """A plan was pushed; now: unix seconds. curves: by which it was made. They may know of a
        change that the last window which counted did not, since none counts in an emergency."""
        if not self.on_trial:
            self._counted = self._departed = now
            self._curves = curves or self._curves
            self._excess = {}
        self._verifier.depart()

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so much."""
        self._counted += seconds
        self._departed += seconds

    def settle(self, plan: Plan) -> None:
        """This is the good plan, whatever was thought of it."""
        self._verifier.settle(plan)

    def update(
        self, plan: Plan, seen: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Check | None:
        """What this window, under `plan`, says of it; None if it says nothing (it began before the
        last one that counted was over).

        Where the plan sends no more than the good one did, it is not to blame: if that is where a
        cluster changed, or where it is worse, the mesh did, and the verdict is void.
        """
        if not self.on_trial:
            self._curves = curves
            self._failing = {
                name: seen.clusters[name].failing(seen.window, estimate.curve.capacity)
                for name, estimate in curves.items()
                if name in seen.clusters
            }
        began = seen.time - seen.window
        if began < self._counted - _OVERLAP * seen.window:
            return None
        self._counted = seen.time
        known = self._curves or curves
        expected = self._predict(self.good, seen, known)
        if self.on_trial:
            self._blame(seen, known)
        check = self._verifier.update(plan, self._cost(seen), expected)
        if self._mesh_changed(plan, seen, curves) or (
            check.verdict is Verdict.WORSE and not self._is_to_blame(plan, seen)
        ):
            self.settle(plan)
            return replace(check, verdict=Verdict.VOID)
        return check

    def _mesh_changed(
        self, plan: Plan, seen: Observation, curves: Mapping[str, CurveEstimate]
    ) -> bool:
        """Whether a cluster was found to have changed since the departure, that is not to blame on
        the plan: what was known then says nothing of it any more."""
        return self.on_trial and any(
            estimate.changed_at is not None
            and estimate.changed_at > self._departed
            and not self._has_more(name, plan, seen)
            for name, estimate in curves.items()
        )

    def _cost(self, seen: Observation) -> float:
        """Seconds per request that enters the mesh."""
        clusters = [seen.clusters[name] for name in self._topology.steered_clusters]
        back = sum(c.throughput for c in clusters)
        tried = sum(c.load + c.breaker_errors for c in clusters)
        if back <= 0.0 or tried <= 0.0 or seen.total_demand <= 0.0:
            return 0.0
        mean = sum(c.throughput * (c.mean or 0.0) for c in clusters) / back
        lost = sum(c.breaker_errors + c.upstream_errors for c in clusters) / tried
        visits = sum(c.load for c in clusters) / seen.total_demand
        return visits * mean + self._objective.error_price * min(1.0, lost)

    def _predict(self, plan: Plan, seen: Observation, curves: Mapping[str, CurveEstimate]) -> float:
        problem = Problem(
            topology=self._topology,
            demands={r.name: seen.demands[r.name] for r in self._topology.routes},
            curves={name: curves[name].curve for name in self._topology.steered_clusters},
            incumbent=plan,
            objective=self._objective,
            guard=_ANY,
        )
        latency, blocked = Objective(problem).outcome(plan)
        loads = plan.loads(seen.demands)
        failing = sum(load * self._failing.get(name, 0.0) for name, load in loads.items())
        lost = blocked + failing / max(sum(loads.values()), 1e-12)
        return latency + self._objective.error_price * min(1.0, lost)

    def _blame(self, seen: Observation, curves: Mapping[str, CurveEstimate]) -> None:
        """Adds up by how much each cluster is slower than its curve, or loses more (seconds)."""
        for name in self._topology.steered_clusters:
            one, curve = seen.clusters[name], curves[name].curve
            expected = curve.latency(one.load) if one.load < curve.capacity else float("inf")
            slower = one.throughput * max(0.0, (one.mean or 0.0) - expected)
            usual = self._failing.get(name, 0.0) * one.load
            lost = max(0.0, one.breaker_errors + one.upstream_errors - usual)
            excess = slower + self._objective.error_price * lost
            self._excess[name] = self._excess.get(name, 0.0) + excess * seen.window

    def _is_to_blame(self, plan: Plan, seen: Observation) -> bool:
        """Whether half of what is too much is where the plan sends more than the good one would,
        or allows less."""
        whole = sum(self._excess.values())
        own = sum(
            excess for name, excess in self._excess.items() if self._has_more(name, plan, seen)
        )
        # Overload that the curves foresaw is nobody's excess.
        return whole <= 0.0 or own >= 0.5 * whole

    def _has_more(self, cluster: str, plan: Plan, seen: Observation) -> bool:
        now, before = (one.loads(seen.demands).get(cluster, 0.0) for one in (plan, self.good))
        return now > _MORE * before or self._tighter(plan, cluster)

    def _tighter(self, plan: Plan, cluster: str) -> bool:
        new, old = (
            one.limits.get(cluster, ENVOY_DEFAULT_LIMITS).max_requests for one in (plan, self.good)
        )
        return new < old


def within(times: Sequence[float], seconds: float, now: float) -> int:
    """How many of these (unix seconds) are of the last so many seconds."""
    return sum(now - seconds < time <= now for time in times)
