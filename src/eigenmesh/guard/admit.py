"""From the optimiser's plan to the plan that may be pushed.

The rules apply in this order, and each records what it cut: bounds, deadband, maximum step
for weights; range, floor, deadband and maximum step for limits; then the minimum gain decides
whether anything is pushed at all. Two things need no gain: limits above all that the learned
curves can call for come down (at 1,024 a breaker protects nobody, and that shows only when it is
too late), and weights out of their bounds (somebody pinned them, or set others) go there, a step
at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from eigenmesh.mesh import (
    ENVOY_DEFAULT_LIMITS,
    BreakerLimits,
    Cut,
    GuardPolicy,
    Plan,
    Topology,
)

LIMIT_DEADBAND = 0.1
"""A limit that would move by less than this fraction stays: rungs follow noisy curves."""

_ROUNDING = 1e-4
"""Envoy's weights are basis points."""


@dataclass(frozen=True, slots=True)
class LimitRange:
    """What the learned curve says of a cluster's limit. floor: a lower one would turn away too much
    of a normal demand; ceiling: none above is ever called for."""

    floor: int = 1
    ceiling: int | None = None


ANY = LimitRange()


@dataclass(frozen=True, slots=True)
class Guarded:
    """`plan` may be pushed. `moves` is False when it is the incumbent; `why` says so."""

    plan: Plan
    cuts: tuple[Cut, ...]
    moves: bool
    why: str


def admit(
    topology: Topology,
    incumbent: Plan,
    proposed: Plan,
    policy: GuardPolicy,
    objective: Callable[[Plan], float],
    ranges: Mapping[str, LimitRange] | None = None,
    failing: Collection[str] = (),
) -> Guarded:
    """What the guard leaves of `proposed`.

    `objective` scores a plan (seconds per request): the gain is judged on the plan that would be
    pushed, not on the one that was proposed. ranges: by cluster, where its curve is known.
    failing: clusters that fail most of their requests: routes over them are in a hurry.
    """
    ranges = ranges or {}
    cuts: list[Cut] = []
    weights = {
        route.name: _weights(
            route.name,
            incumbent.weights[route.name],
            proposed.weights[route.name],
            policy,
            cuts,
            urgent=not set(failing).isdisjoint(route.clusters),
        )
        for route in topology.routes
    }
    limits = dict(incumbent.limits)
    for cluster, wanted in proposed.limits.items():
        known = ranges.get(cluster, ANY)
        old = incumbent.limits.get(cluster)
        limits[cluster] = _limits(cluster, old, wanted, policy, known, cuts)
    plan = Plan(weights, limits)
    if plan == incumbent:
        return Guarded(incumbent, tuple(cuts), False, "the plan in force is already the best")
    before, after = objective(incumbent), objective(plan)
    gain = (before - after) / before if before > 0 else 0.0
    if gain < policy.min_gain:
        cuts.append(Cut("min_gain", "plan", gain, policy.min_gain))
        why = f"predicted gain {gain:.1%} is below min_gain {policy.min_gain:.1%}"
        lowered = _useless(incumbent, limits, ranges)
        if lowered:
            why = f"{why}; limits that protect nobody come down: {', '.join(lowered)}"
        asked = [r for r, split in incumbent.weights.items() if _outside(r, split, policy)]
        if asked:
            why = f"{why}; weights go to where they are bound: {', '.join(asked)}"
        plan = Plan(
            {**incumbent.weights, **{route: weights[route] for route in asked}},
            {**incumbent.limits, **lowered},
        )
        return Guarded(plan, tuple(cuts), plan != incumbent, why)
    return Guarded(plan, tuple(cuts), True, f"predicted gain {gain:.1%}")


def _outside(route: str, split: Mapping[str, float], policy: GuardPolicy) -> bool:
    """Whether one of the route's weights is out of bounds by more than rounding."""
    bounds = {name: policy.bounds_of(route, name) for name in split}
    return len(split) > 1 and any(
        not bounds[name].min_weight - _ROUNDING <= weight <= bounds[name].max_weight + _ROUNDING
        for name, weight in split.items()
    )


def _useless(
    incumbent: Plan, limits: Mapping[str, BreakerLimits], ranges: Mapping[str, LimitRange]
) -> dict[str, BreakerLimits]:
    """Of these limits, those that come down from above the cluster's ceiling."""
    found = {}
    for cluster, old in incumbent.limits.items():
        ceiling, new = ranges.get(cluster, ANY).ceiling, limits[cluster]
        if ceiling is not None and ceiling < old.max_requests > new.max_requests:
            found[cluster] = new
    return found


def step(incumbent: Plan, target: Plan, policy: GuardPolicy) -> Plan:
    """One bounded step from the plan in force toward a plan that was asked for; the plan itself
    once it is near enough. No bound, deadband or gain: whoever asks has their reasons, and it was
    in force before. Gradually, because what gets its traffic back all at once may have been scaled
    down meanwhile."""
    weights = {}
    for route, wanted in target.weights.items():
        old = incumbent.weights.get(route, wanted)
        move = max(abs(wanted[name] - old[name]) for name in wanted)
        part = min(1.0, policy.steps_of(route).max_step / move) if move > 0 else 1.0
        weights[route] = (
            dict(wanted)
            if part == 1.0
            else {name: old[name] + part * (wanted[name] - old[name]) for name in wanted}
        )
    limits = dict(target.limits)
    for cluster, limit in incumbent.limits.items():
        # Where the target leaves the limit to Envoy, that is on the way, too.
        aim = target.limits.get(cluster, ENVOY_DEFAULT_LIMITS).max_requests
        old_limit = limit.max_requests
        least, most = old_limit / policy.max_limit_step, old_limit * policy.max_limit_step
        if not least <= aim <= most:
            limits[cluster] = BreakerLimits.around(round(min(max(aim, least), most)))
    return Plan(weights, limits)


def _weights(
    route: str,
    incumbent: Mapping[str, float],
    proposed: Mapping[str, float],
    policy: GuardPolicy,
    cuts: list[Cut],
    urgent: bool,
) -> dict[str, float]:
    names = list(incumbent)
    if len(names) == 1:
        return dict(incumbent)  # it carries all of it, whatever the bounds say
    bounds = {name: policy.bounds_of(route, name) for name in names}
    lows = [bounds[n].min_weight for n in names]
    highs = [bounds[n].max_weight for n in names]
    wanted = [proposed.get(n, 0.0) for n in names]
    bounded = project(wanted, lows, highs)
    for name, want, allowed in zip(names, wanted, bounded, strict=True):
        if (want < bounds[name].min_weight or want > bounds[name].max_weight) and not math.isclose(
            want, allowed, abs_tol=1e-9
        ):
            cuts.append(Cut("bounds", f"{route}/{name}", want, allowed))
    old = [incumbent[n] for n in names]
    move = max(abs(b - o) for b, o in zip(bounded, old, strict=True))
    steps = policy.steps_of(route)
    if move < steps.deadband and not _outside(route, incumbent, policy):
        if move > 1e-9:
            cuts.append(Cut("deadband", route, move, 0.0))
        return dict(incumbent)
    most = max(steps.max_step, policy.emergency_step if urgent else 0.0)
    if move > most:
        # Along the line to the target: weights keep their sum, and no weight overshoots.
        share = most / move
        bounded = [o + share * (b - o) for b, o in zip(bounded, old, strict=True)]
        cuts.append(Cut("max_step", route, move, most))
    return dict(zip(names, bounded, strict=True))


def _limits(
    cluster: str,
    incumbent: BreakerLimits | None,
    wanted: BreakerLimits,
    policy: GuardPolicy,
    known: LimitRange,
    cuts: list[Cut],
) -> BreakerLimits:
    low, high = policy.limits_of(cluster)
    allowed = min(max(wanted.max_requests, low), high)
    if allowed != wanted.max_requests:
        cuts.append(Cut("limit_range", cluster, wanted.max_requests, allowed))
    if (floor := min(known.floor, high)) > allowed:
        cuts.append(Cut("false_open", cluster, allowed, floor))
        allowed = floor
    if incumbent is not None:
        old = incumbent.max_requests
        if allowed == old or abs(allowed - old) < LIMIT_DEADBAND * old:
            return incumbent
        stepped = min(
            max(allowed, math.ceil(old / policy.max_limit_step)),
            math.floor(old * policy.max_limit_step),
        )
        if stepped != allowed:
            cuts.append(Cut("max_limit_step", cluster, allowed, stepped))
        allowed = stepped
    if allowed == wanted.max_requests:
        return wanted
    return replace(BreakerLimits.around(allowed), max_requests=allowed)


def project(wanted: list[float], lows: list[float], highs: list[float]) -> list[float]:
    """The nearest point (Euclidean) with lows <= w <= highs and sum 1.

    w = clip(wanted - tau): the sum falls as tau grows, so tau is found by bisection. The bounds
    must be feasible (sum of lows <= 1 <= sum of highs).
    """

    def clipped(tau: float) -> list[float]:
        return [min(max(w - tau, lo), hi) for w, lo, hi in zip(wanted, lows, highs, strict=True)]

    if abs(sum(wanted) - 1.0) < 1e-9 and clipped(0.0) == wanted:
        return wanted
    low, high = min(wanted) - 1.0, max(wanted)
    for _ in range(80):
        tau = (low + high) / 2
        if sum(clipped(tau)) > 1.0:
            low = tau
        else:
            high = tau
    result = clipped(high)
    # Bisection leaves a remainder in the last digits; put it where there is room.
    rest = 1.0 - sum(result)
    for i, (value, hi) in enumerate(zip(result, highs, strict=True)):
        if value + rest <= hi:
            result[i] = value + rest
            break
    return result
