"""Retry storms, recognised and damped.

An upstream that is too slow makes Envoy (or its clients) give up and ask again; the upstream goes
on with what was given up, so it has more to do and gets slower still. Such a state outlasts what
caused it (N. Bronson et al., "Metastable failures in distributed systems", HotOS 2021). Two signs:

- *amplification*: attempts / first attempts at or above a threshold, while fewer requests succeed
  than should, and most failures are timeouts or the load is beyond the capacity. An upstream that
  fails fast at low load makes no storm: there retries are what helps;
- *collapse*: Envoy gives up on most attempts, whoever repeats them.

The first stops the cluster's retries, the second also lets in so little (`max_requests`) that the
upstream works off what nobody waits for any more. Once attempts succeed the queue is gone: as many
are let in as the upstream has places, if that is known, and twice as many with every such window;
retries come back step by step, after a quiet time each.

Only ever lowers limits, and needs no solver: what it says holds on top of the plan in force, from
the window in which it is seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from eigenmesh.mesh import (
    ENVOY_DEFAULT_LIMITS,
    BreakerLimits,
    Cause,
    ClusterObservation,
    CurveEstimate,
    Observation,
    Plan,
    RetryBudget,
    StormPolicy,
)

STEPS = (0.0, 0.25, 0.5)
"""Parts of the plan's retries that are let go one after the other; then all of them."""
ENOUGH = 20
"""Attempts in a window below which it says nothing."""
COLLAPSED, CALM = 0.5, 0.9
"""Part of the attempts that must time out, or succeed, for less or more to be let in."""


@dataclass(frozen=True, slots=True)
class Damping:
    """What a cluster has at most while a storm is damped.

    retries: part of the plan's retry limits, 0 to below 1. max_requests: None: the plan's own.
    """

    retries: float
    max_requests: int | None = None

    def of(self, limits: BreakerLimits) -> BreakerLimits:
        """The limits, lowered."""
        budget = limits.retry_budget
        if self.retries == 0:
            budget = RetryBudget(0.0, 0)
        elif budget is not None:
            least = math.floor(self.retries * budget.min_retry_concurrency)
            budget = RetryBudget(self.retries * budget.budget_percent, least)
        return replace(
            limits,
            max_requests=min(limits.max_requests, self.max_requests or limits.max_requests),
            max_retries=max(1, math.floor(self.retries * limits.max_retries)),
            retry_budget=budget,
        )


@dataclass(frozen=True, slots=True)
class _Fight:
    """began, quiet_since: seconds. places: requests that the upstream serves at a time, or 1. most:
    `max_requests` from which on the plan's own hold again. why: for people."""

    damping: Damping
    began: float
    quiet_since: float
    places: int
    most: float
    why: str


class Storm:
    """Which clusters are damped, from one observation to the next, of whatever window.

    The times are those of the observations. What is missing begins nothing and ends nothing.
    """

    def __init__(self, policy: StormPolicy) -> None:
        self.policy = policy
        self._fights: dict[str, _Fight] = {}

    def update(
        self, observation: Observation, curves: Mapping[str, CurveEstimate] | None = None
    ) -> Mapping[str, Damping]:
        """Cluster -> what it has at most from now on; without an entry, what the plan says.

        curves: what was learned before, where it was.
        """
        if self.policy.enabled:
            for name, seen in observation.clusters.items():
                estimate = (curves or {}).get(name)
                fight = self._fights.pop(name, None)
                if fight is not None:
                    fight = self._go_on(fight, seen, observation)
                else:
                    fight = self._begin(seen, estimate, observation)
                if fight is not None:
                    self._fights[name] = fight
        return self.dampings

    @property
    def dampings(self) -> Mapping[str, Damping]:
        return {name: fight.damping for name, fight in self._fights.items()}

    def forget(self) -> None:
        """Nothing is damped from now on."""
        self._fights.clear()

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so much."""
        self._fights = {
            name: replace(
                fight, began=fight.began + seconds, quiet_since=fight.quiet_since + seconds
            )
            for name, fight in self._fights.items()
        }

    def over(self, plan: Plan) -> Plan:
        """The plan with the limits of damped clusters lowered."""
        if not self._fights:
            return plan
        lowered = {
            name: fight.damping.of(plan.limits.get(name, ENVOY_DEFAULT_LIMITS))
            for name, fight in self._fights.items()
        }
        return Plan(plan.weights, {**plan.limits, **lowered})

    def why(self, now: float) -> str:
        """What is damped, how and why, for a decision; empty if nothing is."""
        return "; ".join(
            f"retry storm on {name} for {max(0.0, now - fight.began):.0f} s ({fight.why}): "
            f"{fight.damping.retries:.0%} of its retries allowed"
            + (f", max_requests {most}" if (most := fight.damping.max_requests) else "")
            for name, fight in self._fights.items()
        )

    def _begin(
        self, seen: ClusterObservation, estimate: CurveEstimate | None, observation: Observation
    ) -> _Fight | None:
        if seen.load * observation.window < ENOUGH:
            return None
        most: int | None = None
        places, whole = 1, seen.in_flight
        if estimate is not None:
            places = max(1, round(estimate.curve.capacity * estimate.curve.t0))
            whole = min(whole, 2.0 * places)
        if _collapsed(seen):
            # Half of what was in flight, or of the upstream's places.
            most = max(1, round(min(seen.in_flight, places if estimate else math.inf) / 2.0))
        elif not self._amplified(seen, estimate):
            return None
        why = (
            f"{_amplification(seen):.1f} attempts for each request, "
            f"{_goodput(seen) / seen.load:.0%} of them answered"
        )
        now = observation.time
        return _Fight(Damping(STEPS[0], most), now, now, places, whole, why)

    def _go_on(
        self, fight: _Fight, seen: ClusterObservation, observation: Observation
    ) -> _Fight | None:
        now, damping = observation.time, fight.damping
        enough = seen.load * observation.window >= 1.0
        if enough and (_collapsed(seen) or self._amplified(seen, None)):
            most = damping.max_requests or seen.in_flight
            lower = max(1, round(most / 2.0)) if _collapsed(seen) else damping.max_requests
            return replace(fight, damping=Damping(STEPS[0], lower), quiet_since=now)
        quiet = now - fight.quiet_since >= self.policy.quiet
        if damping.max_requests is not None:
            if quiet or (enough and _goodput(seen) >= CALM * seen.load):
                wider = max(2 * damping.max_requests, fight.places)
                damping = Damping(damping.retries, wider if wider <= fight.most else None)
                return replace(fight, damping=damping, quiet_since=now)
            return fight
        if not quiet:
            return fight
        step = STEPS.index(damping.retries) + 1
        if step == len(STEPS):
            return None
        return replace(fight, damping=Damping(STEPS[step]), quiet_since=now)

    def _amplified(self, seen: ClusterObservation, estimate: CurveEstimate | None) -> bool:
        first = seen.load - seen.retries
        overload = seen.errors.get(Cause.TIMEOUT, 0.0) >= 0.5 * seen.upstream_errors
        if estimate is not None:
            overload |= seen.load >= estimate.curve.capacity
        return (
            _amplification(seen) >= self.policy.amplification
            and _goodput(seen) < self.policy.goodput * first
            and overload
        )


def _amplification(seen: ClusterObservation) -> float:
    """Attempts for each first attempt."""
    first = seen.load - seen.retries
    if first <= 0:
        return math.inf if seen.load > 0 else 1.0
    return seen.load / first


def _goodput(seen: ClusterObservation) -> float:
    """Requests/s that succeeded."""
    return max(0.0, seen.throughput - seen.upstream_errors)


def _collapsed(seen: ClusterObservation) -> bool:
    return seen.errors.get(Cause.TIMEOUT, 0.0) >= COLLAPSED * seen.load > 0
