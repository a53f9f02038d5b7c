"""Between two decisions, limits may be lowered, never raised: the fast heuristic under the slow
learner.

A plan's limit m on a cluster of capacity C accepts a latency of m / C: that of a full house
(Little's law). When the cluster gets less done than it was learned to, a full house lasts longer;
so while one runs away, its limit is m X / C for X requests/s that really come back. What Vegas
does to a window by its round trips (L. Brakmo, L. Peterson, IEEE JSAC 13, 1995), with the learned
curve in place of the shortest one seen.

Running away means, in two windows one after the other: more in flight than the curve has at this
load, and a mean latency (or for want of any answer, an age of what is in flight) far above it; or
a house so full that requests are turned away, and slower than the objective allows, however many
come back. Then the limit is at most what gives a full house the objective's latency, and many who
are turned away are evidence enough in one window.

Windows without data are no windows. The limit comes back step by step once nothing is turned away
any more or what is let in is fast again, or when nothing has been heard of the cluster for too
long to hold on to what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from eigenmesh.mesh import (
    ENVOY_DEFAULT_LIMITS,
    BreakerLimits,
    ClusterObservation,
    CurveEstimate,
    FastPolicy,
    Observation,
    Plan,
)

IN_A_ROW = 2
"""Windows that must agree before anything is lowered."""
BACK = 1.25
"""Factor by which a limit comes back in each window in which nothing runs away."""
SIGMAS = 3.0
"""Standard deviations (of a Poisson count) above what is usual in flight that are not unusual."""
FULL = 0.02
"""Fraction of the requests that a breaker turns away from which on the house counts as full."""
MANY = 20
"""Requests turned away in one window that are no chance."""
IDLE = 0.7
"""Of the throughput before a limit was lowered: where so little is left, it was lowered too far."""
ROOM = 0.8
"""Of the allowed latency: a full house that is quicker may have more."""
FADING = 0.99
"""What is left of that in the next window: it may be tried again."""
AGEING = 1.002
"""Factor by which the quickest latency seen grows with every window: Vegas' base round trip."""
MEAN = 0.6
"""Mean latency of a full house over its 95th percentile, about: its queue is cut at the limit."""
SMOOTH = 0.5
"""Weight of the newest window in what comes back."""


@dataclass(frozen=True, slots=True)
class _State:
    """suspect: windows in a row in which it ran away. throughput: smoothed, requests/s. limit: in
    force, None: the plan's. since: seconds at which it was lowered. why: for people. heard: seconds
    at which there was data last. before: most throughput at any lowering, floor: limit below which
    less was got done, quickest: mean latency (seconds) of the quickest window; all three are
    forgotten little by little."""

    suspect: int = 0
    throughput: float = 0.0
    limit: int | None = None
    since: float = 0.0
    why: str = ""
    heard: float = 0.0
    before: float = 0.0
    floor: float = 1.0
    quickest: float = math.inf


class FastGuard:
    """What is lowered, from one observation to the next.

    slo: seconds of latency that are allowed. min_limit: nothing goes below it. max_age: seconds
    without data after which limits come back.
    """

    def __init__(
        self,
        policy: FastPolicy,
        *,
        slo: float = math.inf,
        min_limit: int = 1,
        max_age: float = 15.0,
    ) -> None:
        self._states: dict[str, _State] = {}
        self.tune(policy, slo=slo, min_limit=min_limit, max_age=max_age)

    def tune(self, policy: FastPolicy, *, slo: float, min_limit: int, max_age: float) -> None:
        """Goes by these from now on; what is lowered stays so."""
        self._policy = policy
        self._slo = slo
        self._min_limit = min_limit
        self._max_age = max_age

    @property
    def limits(self) -> dict[str, int]:
        """Cluster -> max_requests at most, where it is below the plan's."""
        return {name: s.limit for name, s in self._states.items() if s.limit is not None}

    def update(
        self, seen: Observation, curves: Mapping[str, CurveEstimate], plan: Plan
    ) -> dict[str, int]:
        """One more window; returns `limits`. A cluster without data stays as it is for max_age."""
        for name in seen.clusters.keys() | self._states.keys():
            whole = plan.limits.get(name, ENVOY_DEFAULT_LIMITS).max_requests
            state = self._states.get(name, _State())
            if state.limit is not None and state.limit >= whole:
                # A newer plan has less already.
                state = replace(state, limit=None, floor=1.0, before=0.0)
            cluster, estimate = seen.clusters.get(name), curves.get(name)
            if cluster is not None and estimate is not None:
                state = self._next(state, cluster, estimate, whole, seen)
                state = replace(state, heard=seen.time)
            elif seen.time - state.heard > self._max_age:
                state = replace(_back(state, whole), suspect=0)
            self._states[name] = state
        return self.limits

    def forget(self) -> None:
        """Nothing is lowered from now on."""
        self._states.clear()

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so much."""
        self._states = {
            name: replace(state, since=state.since + seconds, heard=state.heard + seconds)
            for name, state in self._states.items()
        }

    def over(self, plan: Plan) -> Plan:
        """The plan with these limits lowered; where it has less already, as it is."""
        lowered = {}
        for name, most in self.limits.items():
            own = plan.limits.get(name, ENVOY_DEFAULT_LIMITS)
            if most < own.max_requests:
                lowered[name] = _lowered(own, most)
        return Plan(plan.weights, {**plan.limits, **lowered}) if lowered else plan

    def why(self, now: float) -> str:
        """What is lowered and why, for a decision; empty if nothing is."""
        return "; ".join(
            f"the fast guard has {name} at {s.limit} for {max(0.0, now - s.since):.0f} s: {s.why}"
            for name, s in self._states.items()
            if s.limit is not None
        )

    def _next(
        self,
        state: _State,
        seen: ClusterObservation,
        estimate: CurveEstimate,
        whole: int,
        observation: Observation,
    ) -> _State:
        curve = estimate.curve
        throughput = seen.throughput
        if state.suspect:
            throughput = SMOOTH * seen.throughput + (1.0 - SMOOTH) * state.throughput
        usual = curve.latency(min(seen.load, 0.95 * curve.capacity))
        in_flight = seen.load * usual
        # Without a single answer, what is in flight is older than the window.
        waiting = math.inf if seen.in_flight > 0 else 0.0
        latency = waiting if seen.mean is None else seen.mean
        # The curve of a full house may be one of few requests that take long: what the cluster can
        # do is what it did when it was quicker. What it never could is not asked for.
        quickest = min(AGEING * state.quickest, math.inf if seen.mean is None else seen.mean)
        state = replace(state, quickest=quickest)
        allowed = max(MEAN * self._slo, 1.5 * min(quickest, curve.t0))
        full = seen.breaker_errors > FULL * (seen.load + seen.breaker_errors)
        away = (full and latency > allowed) or (
            seen.in_flight > in_flight + SIGMAS * math.sqrt(in_flight + 1.0)
            and latency > self._policy.tolerance * usual
        )
        suspect = state.suspect + 1 if away else 0
        if full and away and seen.breaker_errors * observation.window >= MANY:
            suspect = max(suspect, IN_A_ROW)
        floor = FADING * state.floor
        state = replace(state, before=FADING * state.before)
        if full and state.limit is not None and throughput < IDLE * state.before:
            # It gets less done with fewer requests: they were being served, not waiting.
            floor = min(whole, state.limit * state.before / max(throughput, 1e-9))
            raised = max(math.ceil(floor), state.limit)
            return replace(state, suspect=0, throughput=throughput, floor=floor, limit=raised)
        state = replace(state, floor=floor)
        least = max(self._min_limit, math.ceil(max(self._policy.lowest * whole, floor)))
        # Fewer than are surely served at once (Little's law) would leave the upstream idle.
        least = min(whole, max(least, math.ceil(throughput * min(quickest, curve.t0))))
        if suspect >= IN_A_ROW:
            share = min(1.0, throughput / curve.capacity)
            in_time = throughput * allowed if full else math.inf
            now = whole if state.limit is None else state.limit
            wanted = max(least, math.ceil(now / 2), math.floor(min(whole * share, in_time)))
            if wanted < now:
                slow = "no answers" if seen.mean is None else f"latency {1e3 * latency:.0f} ms"
                why = (
                    f"{slow} where the curve says {1e3 * usual:.0f} ms, {throughput:.0f} "
                    f"requests/s come back of {curve.capacity:.0f}"
                    + (f", {seen.breaker_errors:.0f} are turned away" if full else "")
                )
                since = observation.time if state.limit is None else state.since
                before = max(state.before, min(throughput, seen.throughput))
                return replace(
                    state,
                    suspect=suspect,
                    throughput=throughput,
                    limit=wanted,
                    since=since,
                    why=why,
                    before=before,
                )
        if away or state.limit is None or (full and latency > ROOM * allowed):
            return replace(state, suspect=suspect, throughput=throughput)
        return replace(_back(state, whole), suspect=0, throughput=throughput)


def _back(state: _State, whole: int) -> _State:
    """One step nearer to the plan's limit."""
    if state.limit is None:
        return state
    back = math.ceil(BACK * state.limit)
    if back < whole:
        return replace(state, limit=back)
    return replace(state, limit=None, floor=1.0, before=0.0)


def _lowered(limits: BreakerLimits, most: int) -> BreakerLimits:
    """Fewer requests, and of the retries the same part."""
    part = most / limits.max_requests
    return replace(
        limits, max_requests=most, max_retries=max(1, math.floor(part * limits.max_retries))
    )
