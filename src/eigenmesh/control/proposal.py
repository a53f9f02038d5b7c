"""What the solver is asked, and what the guard leaves of its answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from eigenmesh.guard import Guarded, LimitRange, admit
from eigenmesh.guard.surge import draw
from eigenmesh.mesh import (
    ENVOY_DEFAULT_LIMITS,
    BreakerLimits,
    CurveEstimate,
    Cut,
    GuardPolicy,
    ObjectivePolicy,
    Observation,
    Plan,
    Topology,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings, Problem, Solution

KNOWN = 0.5
"""Stated error of a capacity below which it says what limit is too high."""

SAME = 1.3
"""Factor by which a limit may move within a window that is judged as if it had not."""
MOSTLY = 0.5
"""Fraction of failures from which on a cluster has to be left in a hurry."""


class Solver(Protocol):
    async def solve(self, problem: Problem, timeout: float) -> Solution: ...


@dataclass(frozen=True)
class LoopSettings:
    """interval, solve_timeout, refusal_pause: seconds. mesh_hash: identity of routes and clusters.

    refusal_pause: how long nothing is pushed after the Envoys refused a plan. own_limits: the
    operator's own, by cluster.
    """

    topology: Topology
    objective: ObjectivePolicy
    guard: GuardPolicy
    interval: float
    solve_timeout: float
    solver: Literal["best", "variational", "classical"]
    mesh_hash: str
    circuits: CircuitSettings = field(default_factory=CircuitSettings)
    refusal_pause: float = 60.0
    own_limits: Mapping[str, BreakerLimits] = field(default_factory=dict)


def make_problem(
    settings: LoopSettings,
    topology: Topology,
    plan: Plan,
    policy: GuardPolicy,
    *,
    demands: Mapping[str, float],
    observation: Observation,
    curves: Mapping[str, CurveEstimate],
    seed: int,
) -> Problem:
    """topology: with what was learned of hosts and calls. plan: in force. demands: requests/s that
    are expected. observation: the last one, for what fails."""
    steered, quantile = settings.topology.steered_clusters, settings.objective.quantile
    return Problem(
        topology=topology,
        demands=demands,
        curves={name: curves[name].curve for name in steered},
        tails={}
        if quantile is None
        else {name: estimate.tail(quantile) for name, estimate in curves.items()},
        failures={
            name: observation.clusters[name].failing(
                observation.window, curves[name].curve.capacity
            )
            for name in steered
        },
        incumbent=with_default_limits(plan, settings.topology),
        objective=settings.objective,
        guard=policy,
        seed=seed,
        solver=settings.solver,
        circuits=settings.circuits,
    )


def failing(seen: Observation, curves: Mapping[str, CurveEstimate]) -> list[str]:
    """The clusters that fail most of their requests."""
    return [
        name
        for name, one in seen.clusters.items()
        if name in curves and one.failing(seen.window, curves[name].curve.capacity) > MOSTLY
    ]


def guard_solution(
    objective: Objective,
    solution: Solution,
    topology: Topology,
    curves: Mapping[str, CurveEstimate],
    growth: Mapping[str, float],
    peaks: Mapping[str, float],
    means: Mapping[str, float],
    policy: GuardPolicy,
) -> Guarded:
    """growth, peaks, means: of the routes' demands, as `Surge` and `Peaks` have them. The
    objective's incumbent is the plan in force, with all limits spelled out."""
    incumbent = with_default_limits(objective.problem.incumbent, topology)
    wanted = movable(solution.plan, topology)
    drawn: tuple[Cut, ...] = ()
    if any(grown > policy.surge for grown in growth.values()):
        limits = objective.limits_of(incumbent)
        shares = objective.plan(objective.capacity_weights(), limits).weights
        wanted, drawn = draw(wanted, shares, growth, policy)
    least = objective.limit_ranges(wanted, policy.false_open, peaks, means)
    ranges = {
        # A capacity that is hardly known is no reason to turn anyone away.
        name: LimitRange(low, high if curves[name].capacity_error < KNOWN else None)
        for name, (low, high) in least.items()
    }
    failures = objective.problem.failures
    bad = [name for name, part in failures.items() if part > MOSTLY]
    guarded = admit(topology, incumbent, wanted, policy, objective.of_plan, ranges, bad)
    return replace(guarded, cuts=(*drawn, *guarded.cuts))


def let_in(plan: Plan, settings: LoopSettings) -> dict[str, float]:
    """Cluster -> requests in flight that the plan lets in, where that is not the operator's."""
    return {
        name: float(limits.max_requests)
        for name, limits in plan.limits.items()
        if limits != settings.own_limits.get(name, ENVOY_DEFAULT_LIMITS)
        and name not in settings.topology.adaptive
    }


def meanwhile(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """What was let in between two moments, where that is one thing."""
    return {
        name: math.sqrt(old * now[name])
        for name, old in before.items()
        if name in now and 1.0 / SAME < now[name] / old < SAME
    }


def movable(plan: Plan, topology: Topology) -> Plan:
    """The plan without the limits that are not to be moved: no bound or step applies to them."""
    return Plan(plan.weights, {c: m for c, m in plan.limits.items() if c not in topology.adaptive})


def with_default_limits(plan: Plan, topology: Topology) -> Plan:
    """The plan with Envoy's default thresholds spelled out where it leaves limits alone."""
    missing = {c: ENVOY_DEFAULT_LIMITS for c in topology.steered_clusters if c not in plan.limits}
    return Plan(plan.weights, {**plan.limits, **missing}) if missing else plan
