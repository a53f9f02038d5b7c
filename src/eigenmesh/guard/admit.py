"""From the optimiser's plan to the plan that may be pushed.

The rules apply in this order, and each records what it cut: bounds, deadband, maximum step
for weights; range, deadband and maximum step for limits; then the minimum gain decides whether
anything is pushed at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from eigenmesh.mesh import BreakerLimits, Cut, GuardPolicy, Plan, Topology

LIMIT_DEADBAND = 0.1
"""A limit that would move by less than this fraction stays: rungs follow noisy curves."""


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
) -> Guarded:
    """What the guard leaves of `proposed`.

    `objective` scores a plan (seconds per request): the gain is judged on the plan that would be
    pushed, not on the one that was proposed.
    """
    cuts: list[Cut] = []
    weights = {
        route.name: _weights(
            route.name, incumbent.weights[route.name], proposed.weights[route.name], policy, cuts
        )
        for route in topology.routes
    }
    limits = dict(incumbent.limits)
    for cluster, wanted in proposed.limits.items():
        limits[cluster] = _limits(cluster, incumbent.limits.get(cluster), wanted, policy, cuts)
    plan = Plan(weights, limits)
    if plan == incumbent:
        return Guarded(incumbent, tuple(cuts), False, "the plan in force is already the best")
    before, after = objective(incumbent), objective(plan)
    gain = (before - after) / before if before > 0 else 0.0
    if gain < policy.min_gain:
        cuts.append(Cut("min_gain", "plan", gain, policy.min_gain))
        why = f"predicted gain {gain:.1%} is below min_gain {policy.min_gain:.1%}"
        return Guarded(incumbent, tuple(cuts), False, why)
    return Guarded(plan, tuple(cuts), True, f"predicted gain {gain:.1%}")


def step(topology: Topology, incumbent: Plan, target: Plan, policy: GuardPolicy) -> Plan:
    """One bounded step from the plan in force toward a plan that was asked for; the plan itself
    once it is near enough. No deadband and no gain: whoever asks has their reasons. Gradually,
    because what gets its traffic back all at once may have been scaled down meanwhile."""
    willing = replace(policy, deadband=0.0)
    cuts: list[Cut] = []
    weights = {
        route.name: _weights(
            route.name, incumbent.weights[route.name], target.weights[route.name], willing, cuts
        )
        for route in topology.routes
    }
    limits = dict(target.limits)
    for cluster, wanted in target.limits.items():
        if (old := incumbent.limits.get(cluster)) is not None:
            factor = policy.max_limit_step
            most, least = (
                math.floor(old.max_requests * factor),
                math.ceil(old.max_requests / factor),
            )
            allowed = min(max(wanted.max_requests, least), most)
            if allowed != wanted.max_requests:
                limits[cluster] = BreakerLimits.around(allowed)
    return Plan(weights, limits)


def _weights(
    route: str,
    incumbent: Mapping[str, float],
    proposed: Mapping[str, float],
    policy: GuardPolicy,
    cuts: list[Cut],
) -> dict[str, float]:
    names = list(incumbent)
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
    if move < policy.deadband:
        if move > 1e-9:
            cuts.append(Cut("deadband", route, move, 0.0))
        return dict(incumbent)
    if move > policy.max_step:
        # Along the line to the target: weights keep their sum, and no weight overshoots.
        share = policy.max_step / move
        bounded = [o + share * (b - o) for b, o in zip(bounded, old, strict=True)]
        cuts.append(Cut("max_step", route, move, policy.max_step))
    return dict(zip(names, bounded, strict=True))


def _limits(
    cluster: str,
    incumbent: BreakerLimits | None,
    wanted: BreakerLimits,
    policy: GuardPolicy,
    cuts: list[Cut],
) -> BreakerLimits:
    allowed = min(max(wanted.max_requests, policy.min_limit), policy.max_limit)
    if allowed != wanted.max_requests:
        cuts.append(Cut("limit_range", cluster, wanted.max_requests, allowed))
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
