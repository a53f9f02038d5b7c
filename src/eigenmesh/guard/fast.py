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
    LatencyCurve,
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


@dataclass(frozen=True)
class _Window:
    """What one window says of a cluster.

    throughput: requests/s that come back, smoothed while it is suspected. latency, usual, allowed:
    seconds: its mean, what the curve says, what is allowed. quickest: the least mean latency of
    late; served_in: seconds that a request surely takes. full: its breaker turns requests away.
    away: it runs away; certain: one window is enough to say so.
    """

    throughput: float
    latency: float
    usual: float
    allowed: float
    quickest: float
    served_in: float
    full: bool
    away: bool
    certain: bool


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

    def _look(
        self, state: _State, seen: ClusterObservation, curve: LatencyCurve, window: float
    ) -> _Window:
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
        served_in = min(quickest, curve.t0)
        allowed = max(MEAN * self._slo, 1.5 * served_in)
        full = seen.breaker_errors > FULL * (seen.load + seen.breaker_errors)
        away = (full and latency > allowed) or (
            seen.in_flight > in_flight + SIGMAS * math.sqrt(in_flight + 1.0)
            and latency > self._policy.tolerance * usual
        )
        certain = full and away and seen.breaker_errors * window >= MANY
        return _Window(
            throughput, latency, usual, allowed, quickest, served_in, full, away, certain
        )

    def _next(
        self,
        state: _State,
        seen: ClusterObservation,
        estimate: CurveEstimate,
        whole: int,
        observation: Observation,
    ) -> _State:
        """After one more window; whole: the plan's limit."""
        curve = estimate.curve
        now = self._look(state, seen, curve, observation.window)
        suspect = state.suspect + 1 if now.away else 0
        if now.certain:
            suspect = max(suspect, IN_A_ROW)
        floor, before = FADING * state.floor, FADING * state.before
        state = replace(
            state, quickest=now.quickest, throughput=now.throughput, floor=floor, before=before
        )
        if now.full and state.limit is not None and now.throughput < IDLE * before:
            # It gets less done with fewer requests: they were being served, not waiting.
            floor = min(whole, state.limit * before / max(now.throughput, 1e-9))
            return replace(state, suspect=0, floor=floor, limit=max(math.ceil(floor), state.limit))
        if suspect >= IN_A_ROW:
            limit = whole if state.limit is None else state.limit
            wanted = max(
                self._least(now, floor, whole), math.ceil(limit / 2), _served(now, curve, whole)
            )
            if wanted < limit:
                return replace(
                    state,
                    suspect=suspect,
                    limit=wanted,
                    since=observation.time if state.limit is None else state.since,
                    why=_why(now, seen, curve),
                    before=max(before, min(now.throughput, seen.throughput)),
                )
        if now.away or state.limit is None or (now.full and now.latency > ROOM * now.allowed):
            return replace(state, suspect=suspect)
        return replace(_back(state, whole), suspect=0)

    def _least(self, now: _Window, floor: float, whole: int) -> int:
        """Nothing is lowered below it."""
        least = max(self._min_limit, math.ceil(max(self._policy.lowest * whole, floor)))
        # Fewer than are surely served at once (Little's law) would leave the upstream idle.
        return min(whole, max(least, math.ceil(now.throughput * now.served_in)))


def _served(now: _Window, curve: LatencyCurve, whole: int) -> int:
    """What is called for by what comes back: its share of the limit, or as many as are served in
    the time that is allowed."""
    share = min(1.0, now.throughput / curve.capacity)
    in_time = now.throughput * now.allowed if now.full else math.inf
    return math.floor(min(whole * share, in_time))


def _why(now: _Window, seen: ClusterObservation, curve: LatencyCurve) -> str:
    slow = "no answers" if seen.mean is None else f"latency {1e3 * now.latency:.0f} ms"
    turned = f", {seen.breaker_errors:.0f} are turned away" if now.full else ""
    return (
        f"{slow} where the curve says {1e3 * now.usual:.0f} ms, {now.throughput:.0f} "
        f"requests/s come back of {curve.capacity:.0f}{turned}"
    )


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
