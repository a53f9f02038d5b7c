"""What people and their programs ask of a running mesh: the one place behind the gRPC API, the
command line and the page.

Every write is checked, journaled with an audit entry in one transaction, and only then takes
effect. `by` names who asks. Raises, unless said otherwise: MeshError (field, value, remedy) for a
request that makes no sense, StateError when the mesh is in no state for it, JournalWriteError when
it cannot be recorded; nothing was changed then.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from eigenmesh.control.audit import AuditEntry
from eigenmesh.control.journal import Journal
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.proposal import guard_solution
from eigenmesh.guard import calendar
from eigenmesh.guard.controls import Controls, Mode, check_bounds, effective, unknown
from eigenmesh.mesh import (
    Action,
    Candidate,
    Decision,
    GuardPolicy,
    LatencyCurve,
    MeshError,
    Observation,
    Plan,
    Route,
    Topology,
    admitted_latency,
    blocked_fraction,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem


class StateError(Exception):
    """The mesh is in no state for what was asked; the message says why and what to do."""


class NotFoundError(Exception):
    """There is no such thing; the message says what there is."""


@dataclass(frozen=True)
class ClusterForecast:
    """One cluster under a plan. load, capacity: requests/s. latency: mean seconds of what is
    admitted. blocked: fraction that its limit would turn away."""

    load: float
    capacity: float
    latency: float
    blocked: float


@dataclass(frozen=True)
class WhatIf:
    """What would be, nothing pushed. demands: requests/s by route. plan: the solver's, within the
    guard's bounds but not its steps. predicted, latency: objective and mean in seconds under it;
    incumbent_*: under the plan in force, as far as that still fits."""

    demands: Mapping[str, float]
    plan: Plan
    predicted: float
    latency: float | None
    incumbent_predicted: float
    incumbent_latency: float | None
    clusters: Mapping[str, ClusterForecast]
    candidates: Sequence[Candidate]


class Operations:
    """original: the plan of the operator. Reads are cheap; `what_if`, `propose` ask the solver."""

    def __init__(self, loop: ControlLoop, journal: Journal, *, original: Plan) -> None:
        self._loop = loop
        self._journal = journal
        self.original = original

    @property
    def controls(self) -> Controls:
        """What people asked, as it holds now."""
        return self._loop.controls

    @property
    def pending(self) -> Decision | None:
        """The decision that waits for a yes (mode `approve`)."""
        return self._loop.approvals.pending

    async def set_mode(self, mode: Mode, *, route: str = "", cluster: str = "", by: str) -> None:
        """Of the whole mesh, or of one route's weights or one cluster's limits (stricter only)."""
        controls, detail = self.controls, {"mode": mode.value}
        if route and cluster:
            raise MeshError("cluster", cluster, "name a route or a cluster, not both")
        if route:
            controls = replace(controls, routes=_with(controls.routes, route, mode))
            detail["route"] = route
        elif cluster:
            controls = replace(controls, clusters=_with(controls.clusters, cluster, mode))
            detail["cluster"] = cluster
        else:
            controls = replace(controls, mode=mode)
        await self._ask(controls, "SetMode", detail, by)

    async def pause(self, why: str, *, by: str) -> None:
        """Nothing is pushed until `resume`; a retry storm is still damped."""
        why = why or f"by {by}"
        await self._ask(replace(self.controls, paused=why), "Pause", {"why": why}, by)

    async def resume(self, *, by: str) -> None:
        """Ends a pause, a freeze of `freeze`, and a hold after rollbacks."""
        free = replace(self.controls, paused="", frozen_until=0.0, held="")
        await self._ask(free, "Resume", {}, by)

    async def freeze(self, until: float, *, by: str) -> None:
        """Nothing is pushed until then (unix seconds)."""
        if not (math.isfinite(until) and until > self._loop.clock()):
            raise MeshError("until", until, "name a time to come")
        frozen = replace(self.controls, frozen_until=until)
        await self._ask(frozen, "Freeze", {"until": until}, by)

    async def pin(self, route: str, weights: Mapping[str, float], *, by: str) -> None:
        """These clusters of the route get exactly these weights, reached by bounded steps."""
        if not weights:
            raise MeshError(f"pins.{route}", {}, "name a cluster and its weight, or unpin")
        for cluster, weight in weights.items():
            if not 0.0 <= weight <= 1.0:
                raise MeshError(f"pins.{route}.{cluster}", weight, "use a fraction from 0 to 1")
        pins = {**self.controls.pins, route: dict(weights)}
        detail = {"route": route, "weights": dict(weights)}
        await self._ask(replace(self.controls, pins=pins), "Pin", detail, by)

    async def unpin(self, route: str, *, by: str) -> None:
        """MeshError if it is not pinned."""
        if route not in self.controls.pins:
            pinned = ", ".join(self.controls.pins) or "none is"
            raise MeshError("route", route, f"it is not pinned; pinned: {pinned}")
        pins = {name: pin for name, pin in self.controls.pins.items() if name != route}
        await self._ask(replace(self.controls, pins=pins), "Unpin", {"route": route}, by)

    async def promote(self, route: str, cluster: str, *, by: str) -> None:
        """The canary's ceiling (`guard.canaries`) no longer holds."""
        canaries = self._loop.settings.guard.canaries
        if (route, cluster) not in canaries:
            known = ", ".join(f"{r}/{c}" for r, c in canaries) or "there is none"
            raise MeshError("cluster", f"{route}/{cluster}", f"no such canary; known: {known}")
        promoted = self.controls.promoted | {(route, cluster)}
        detail = {"route": route, "cluster": cluster}
        await self._ask(replace(self.controls, promoted=promoted), "Promote", detail, by)

    async def set_policy(self, overrides: Mapping[str, float | None], *, by: str) -> None:
        """Settings of the guard by their names, such as max_step; None: as the settings say."""
        for name, value in overrides.items():
            if name not in LIVE:
                raise MeshError(f"policy.{name}", value, f"use one of: {', '.join(sorted(LIVE))}")
            low, high = LIVE[name]
            if value is not None and not low <= value <= high:
                raise MeshError(f"policy.{name}", value, f"use {low:g} to {high:g}")
        now = {**self.controls.overrides, **overrides}
        kept = {
            name: int(value) if isinstance(getattr(GuardPolicy, name), int) else float(value)
            for name, value in now.items()
            if value is not None
        }
        await self._ask(
            replace(self.controls, overrides=kept), "SetPolicy", {"overrides": dict(overrides)}, by
        )

    async def approve(self, number: int = 0, *, by: str) -> Decision:
        """Pushes the pending plan; number: that of its decision, 0: whichever is pending."""
        loop = self._loop
        async with loop.turn:
            pending = self._pending(number)
            now, policy = loop.clock(), loop.settings.guard
            frozen = any(calendar.frozen(window, now) > 0 for window in policy.freeze)
            if stop := self.controls.stops(now) or ("a freeze window is open" if frozen else None):
                raise StateError(f"nothing is pushed now: {stop}")
            await self._audit("Approve", {"number": pending.number}, by)
            return await loop.push_pending(by)

    async def reject(self, number: int = 0, why: str = "", *, by: str) -> Decision:
        """The pending plan is dropped, and none is proposed for a while. The decision it was."""
        loop = self._loop
        async with loop.turn:
            pending = self._pending(number)
            await self._audit("Reject", {"number": pending.number, "why": why}, by)
            await loop.wait_for(None)
            said = f": {why}" if why else ""
            loop.approvals.reject(
                f"decision {pending.number} was rejected by {by}{said}", loop.clock()
            )
            return pending

    async def roll_back(self, number: int, *, by: str) -> None:
        """Goes to the plan of that decision by bounded steps, and pauses there. NotFoundError."""
        decision = await asyncio.to_thread(self._journal.decision, number)
        if decision is None:
            raise NotFoundError(f"decision {number} is not in the journal")
        if decision.action in (Action.RECOMMEND, Action.AWAIT):
            raise StateError(
                f"the plan of decision {number} was never in force ({decision.action.value}); "
                "choose one that was pushed"
            )
        why = f"rolled back to the plan of decision {number} by {by}"
        await self._go_to(decision.plan, why, "RollBack", {"number": number}, by)

    async def restore(self, *, by: str) -> None:
        """Goes to the operator's own weights and limits by bounded steps, and pauses there."""
        why = f"the operator's own weights and limits restored by {by}"
        await self._go_to(self.original, why, "Restore", {}, by)

    async def propose(self) -> Decision:
        """What would be decided now, by the latest observation. Nothing is pushed or recorded.
        SolverError."""
        seen = self._seen()
        loop = self._loop
        problem = loop.decider.problem(seen, loop.curves)
        solution = await loop.solver.solve(problem, loop.settings.solve_timeout)
        objective = Objective(problem)
        guarded = guard_solution(
            objective,
            solution,
            loop.settings.topology,
            loop.curves,
            {},
            loop.decider.peaks.over(problem.demands),
            loop.decider.peaks.means(problem.demands),
            loop.policy,
        )
        return Decision(
            number=0,
            time=loop.clock(),
            action=Action.RECOMMEND if guarded.moves else Action.HOLD,
            why=guarded.why,
            plan=guarded.plan,
            proposed=solution.plan,
            observation=seen,
            curves=loop.curves,
            candidates=solution.candidates,
            cuts=guarded.cuts,
            predicted=solution.objective,
            incumbent_predicted=solution.incumbent_objective,
            predicted_latency=solution.predicted_latency,
        )

    async def what_if(
        self,
        demands: Mapping[str, float] | None = None,
        *,
        scale: float = 1.0,
        without: Sequence[str] = (),
        capacities: Mapping[str, float] | None = None,
    ) -> WhatIf:
        """At these demands (requests/s by route; others as now, times `scale`), without these
        clusters, with capacities multiplied by these factors. SolverError."""
        loop, seen = self._loop, self._seen()
        now = loop.decider.problem(seen, loop.curves)
        asked = _changed(now, demands or {}, scale, without, capacities or {})
        solution = await loop.solver.solve(asked, loop.settings.solve_timeout)
        objective = Objective(asked)
        return WhatIf(
            demands=asked.demands,
            plan=solution.plan,
            predicted=solution.objective,
            latency=_finite(solution.predicted_latency),
            incumbent_predicted=solution.incumbent_objective,
            incumbent_latency=_finite(objective.predicted_latency(asked.incumbent)),
            clusters=_forecast(asked, solution.plan),
            candidates=solution.candidates,
        )

    async def audit(self, limit: int = 100, before: int = 0) -> list[AuditEntry]:
        """The newest first; before: only entries with a smaller number, if it is not 0."""
        return await asyncio.to_thread(self._journal.audit, limit, before)

    async def _ask(
        self, controls: Controls, action: str, detail: Mapping[str, Any], by: str
    ) -> None:
        """Checked against the mesh, journaled, in force from the next tick on."""
        loop = self._loop
        async with loop.turn:
            entry = AuditEntry(loop.clock(), by, action, detail)
            try:
                for field, name in unknown(loop.settings.topology, controls):
                    raise MeshError(field, name, _known(loop.settings.topology, field))
                policy = effective(loop.settings.guard, controls, loop.plan)
                check_bounds(loop.settings.topology, policy)
            except MeshError as error:
                # Whoever asked for the impossible is on record, too.
                await asyncio.to_thread(
                    self._journal.record_audit, replace(entry, outcome=str(error))
                )
                raise
            await loop.put_controls(controls, entry)

    async def _go_to(
        self, plan: Plan, why: str, action: str, detail: Mapping[str, Any], by: str
    ) -> None:
        loop = self._loop
        routes = {r.name: frozenset(r.clusters) for r in loop.settings.topology.routes}
        if {route: frozenset(split) for route, split in plan.weights.items()} != routes:
            raise StateError("that plan is of another mesh: its routes or clusters have changed")
        async with loop.turn:
            controls = replace(self.controls, target=plan, target_why=why, paused=why)
            await loop.put_controls(controls, AuditEntry(loop.clock(), by, action, detail))
            await loop.wait_for(None)

    async def _audit(self, action: str, detail: Mapping[str, Any], by: str) -> None:
        entry = AuditEntry(self._loop.clock(), by, action, detail)
        await asyncio.to_thread(self._journal.record_audit, entry)

    def _pending(self, number: int) -> Decision:
        pending = self.pending
        if pending is None:
            raise StateError("no plan waits for a yes; in mode approve the next one will")
        if number and pending.number != number:
            raise StateError(
                f"decision {number} does not wait for a yes; decision {pending.number} does"
            )
        return pending

    def _seen(self) -> Observation:
        """The latest complete observation. Raises StateError if there is none."""
        loop = self._loop
        seen = loop.latest.observation if loop.latest else None
        steered = loop.settings.topology.steered_clusters
        if seen is None or seen.missing or any(name not in loop.curves for name in steered):
            why = loop.latest.why if loop.latest else "no decision was made yet"
            raise StateError(f"the mesh is not known well enough: {why}")
        return seen


LIVE: Mapping[str, tuple[float, float]] = {
    "max_step": (0.001, 1.0),
    "deadband": (0.0, 1.0),
    "emergency_step": (0.001, 1.0),
    "min_gain": (0.0, 1.0),
    "max_limit_step": (1.01, 100.0),
    "min_limit": (1, 1 << 20),
    "max_limit": (1, 1 << 20),
    "false_open": (0.0, 1.0),
    "max_age": (0.1, 3600.0),
    "bake": (0.0, 86400.0),
    "changes_per_hour": (0, 3600),
    "surge": (1.0, 1000.0),
    "probe_floor": (0.0, 0.5),
}
"""Settings of the guard that can be changed while it runs, and their range."""
assert set(LIVE) <= {field.name for field in fields(GuardPolicy)}


def _with(modes: Mapping[str, Mode], name: str, mode: Mode) -> dict[str, Mode]:
    """`auto` is what the mesh's own mode says, and needs no entry."""
    kept = {other: m for other, m in modes.items() if other != name}
    return kept if mode is Mode.AUTO else {**kept, name: mode}


def _known(topology: Topology, field: str) -> str:
    if field == "clusters":
        names: Sequence[str] = topology.steered_clusters
    elif field in ("routes", "pins"):
        names = tuple(topology.route_by_name)
    else:
        names = topology.route_by_name[field.removeprefix("pins.")].clusters
    return f"use one of: {', '.join(names)}"


def _changed(
    now: Problem,
    demands: Mapping[str, float],
    scale: float,
    without: Sequence[str],
    capacities: Mapping[str, float],
) -> Problem:
    """The problem under other circumstances. Raises MeshError."""
    topology = now.topology
    for field, names, known in (
        ("demands", demands, list(topology.route_by_name)),
        ("without", without, list(topology.steered_clusters)),
        ("capacities", capacities, list(topology.steered_clusters)),
    ):
        for name in names:
            if name not in known:
                raise MeshError(field, name, f"use one of: {', '.join(known)}")
    if not (math.isfinite(scale) and scale >= 0.0):
        raise MeshError("scale", scale, "use a number of 0 or more")
    for name, factor in capacities.items():
        if not (math.isfinite(factor) and factor > 0.0):
            raise MeshError(f"capacities.{name}", factor, "use a factor above 0")
    for name, demand in demands.items():
        if not (math.isfinite(demand) and demand >= 0.0):
            raise MeshError(f"demands.{name}", demand, "use requests/s of 0 or more")
    gone = set(without)
    routes = [_left(route, gone) for route in topology.routes]
    weights = {r.name: _left_weights(now.incumbent.weights[r.name], r) for r in routes}
    curves = {
        name: LatencyCurve(
            # Slots go, the service time stays.
            curve.t0,
            curve.capacity * capacities.get(name, 1.0),
            curve.variability,
        )
        for name, curve in now.curves.items()
    }
    demanded = {name: demands.get(name, demand * scale) for name, demand in now.demands.items()}
    bounds = {key: bound for key, bound in now.guard.cluster_bounds.items() if key[1] not in gone}
    if gone:
        # With some clusters gone the others may need more than they are allowed.
        bounds = {}
    return replace(
        now,
        topology=replace(topology, routes=tuple(routes)),
        demands=demanded,
        curves=curves,
        incumbent=Plan(weights, now.incumbent.limits),
        guard=replace(now.guard, cluster_bounds=bounds),
    )


def _left(route: Route, gone: set[str]) -> Route:
    clusters = tuple(name for name in route.clusters if name not in gone)
    if not clusters:
        raise MeshError("without", sorted(gone), f"route {route.name} would have no cluster left")
    return replace(route, clusters=clusters)


def _left_weights(split: Mapping[str, float], route: Route) -> dict[str, float]:
    """Envoy spreads what a missing cluster had over the others, by their weights."""
    kept = {name: split[name] for name in route.clusters}
    total = sum(kept.values())
    if total <= 0.0:
        return {name: 1.0 / len(kept) for name in kept}
    return {name: weight / total for name, weight in kept.items()}


def _forecast(problem: Problem, plan: Plan) -> dict[str, ClusterForecast]:
    found = {}
    for name, load in plan.loads(problem.demands).items():
        curve, limits = problem.curves[name], plan.limits.get(name)
        blocked, latency = 0.0, curve.latency(load)
        if limits is not None:
            limit = float(limits.max_requests)
            blocked = float(blocked_fraction(load, curve.t0, curve.capacity, limit))
            latency = float(admitted_latency(load, curve.t0, curve.capacity, limit))
        found[name] = ClusterForecast(load, curve.capacity, latency, blocked)
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
