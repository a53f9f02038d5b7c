"""The control loop: observe -> estimate -> optimise -> guard -> push -> remember.

One tick at a time, on the event loop that also serves xDS. Whatever computes runs elsewhere:
solving in the worker process, estimating and the journal in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import structlog

from eigenmesh.control.audit import AuditEntry
from eigenmesh.control.journal import Journal, JournalWriteError
from eigenmesh.control.metrics import Metrics
from eigenmesh.guard import FastGuard, LimitRange, Prober, Storm, admit, lacking
from eigenmesh.guard.controls import Controls
from eigenmesh.guard.controls import Mode as ControlMode
from eigenmesh.mesh import (
    ENVOY_DEFAULT_LIMITS,
    Action,
    CurveEstimate,
    Decision,
    GuardPolicy,
    ObjectivePolicy,
    Observation,
    Plan,
    Topology,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings, Problem, Solution
from eigenmesh.optimize.worker import SolverError
from eigenmesh.telemetry.coupled import CoupledEstimator
from eigenmesh.telemetry.forecast import Forecast
from eigenmesh.telemetry.source import Source

log = structlog.get_logger(__name__)

Mode = Literal["observe", "auto"]

KNOWN = 0.5
"""Stated error of a capacity below which it says what limit is too high."""


class Solver(Protocol):
    async def solve(self, problem: Problem, timeout: float) -> Solution: ...


@dataclass(frozen=True)
class LoopSettings:
    """interval, solve_timeout, refusal_pause: seconds. mesh_hash: identity of routes and clusters.

    refusal_pause: how long nothing is pushed after the Envoys refused a plan.
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


class ControlLoop:
    """`push` makes a plan, with what `storm` and `fast` say over it, the one that xDS serves; it
    must not block. `fast`: something looks at the mesh between ticks, and calls `calm`.

    `observed` is told every observation before it is decided on.

    `plan` is the plan in force, `latest` the newest decision, `confirmed` the last plan that the
    Envoys are known to have taken.
    """

    def __init__(
        self,
        settings: LoopSettings,
        *,
        plan: Plan,
        mode: Mode,
        number: int,
        source: Source,
        estimator: CoupledEstimator,
        solver: Solver,
        journal: Journal,
        push: Callable[[Plan], None],
        metrics: Metrics,
        observed: Callable[[Observation], Awaitable[None]] | None = None,
        storm: Storm | None = None,
        fast: FastGuard | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self.plan = plan
        self.mode: Mode = mode
        self.latest: Decision | None = None
        self.confirmed = plan
        self._refusal: tuple[float, str] | None = None
        self._turn = asyncio.Lock()
        self._number = number
        self._source = source
        self._estimator = estimator
        self._forecast = Forecast()
        self._prober = Prober(settings.topology, settings.guard)
        self._storm = storm or Storm(settings.guard.storm)
        self._fast = fast
        self.curves: Mapping[str, CurveEstimate] = {}
        self._solver = solver
        self._journal = journal
        self._push = push
        self._metrics = metrics
        self._observed = observed
        self._clock = clock
        self._changed = asyncio.Condition()
        metrics.show_plan(plan)

    async def run(self) -> None:
        """Ticks until cancelled. A tick that is late does not cause two in a row."""
        while True:
            started = time.monotonic()
            try:
                await self.tick()
            except asyncio.CancelledError:
                raise
            except Exception:
                # A bug in one tick must not end steering; the plan in force stays.
                log.exception("tick failed; the plan in force stays")
            await asyncio.sleep(max(0.05, self._settings.interval - (time.monotonic() - started)))

    async def set_mode(self, mode: Mode) -> None:
        """Raises JournalWriteError when the mode cannot be recorded; it is then unchanged."""
        controls = Controls(ControlMode(mode)).to_dict()
        entry = AuditEntry(self._clock(), "api", "SetMode", {"mode": mode})
        await asyncio.to_thread(self._journal.put_controls, controls, entry)
        log.info("mode set", mode=mode, before=self.mode)
        self.mode = mode
        if self._storm.dampings:
            # Seen under the other mode; to be let go of, or begun, from the start.
            self._storm.forget()
            self._push(self.plan)

    async def watch(self) -> AsyncIterator[Decision]:
        """The latest decision, then each new one; a slow reader skips to the newest."""
        seen: Decision | None = None
        while True:
            async with self._changed:
                while self.latest is seen or self.latest is None:
                    await self._changed.wait()
                seen = self.latest
            yield seen

    async def tick(self) -> Decision:
        """One turn of the loop. The decision is journaled before this returns."""
        async with self._turn:
            return await self._tick()

    async def take_back(self, why: str) -> None:
        """The Envoys kept refusing the plan in force: the last one that they took is in force
        again, and no other is tried for a while."""
        async with self._turn:
            if self.plan == self.confirmed:
                return
            log.error("plan refused; the last one that was taken is in force", reason=why)
            self._metrics.plans_refused.inc()
            self._refusal = (self._clock() + self._settings.refusal_pause, why)
            if await self._put_in_force(self.confirmed) is not None:
                # Unlike a new plan this one is in force already, journaled or not.
                self.plan = self.confirmed
                self._push(self.plan)

    async def _tick(self) -> Decision:
        started = time.monotonic()
        observation = await self._source.observe(self._clock())
        if self._fast is None:
            self.calm(observation)
        if self._observed is not None:
            await self._observed(observation)
        # Numpy on a thread: the fit of many clusters must not hold up xDS.
        curves = await asyncio.to_thread(self._estimator.update, observation, self.plan.weights)
        self.curves = curves
        decision = await self._decide(observation, dict(curves))
        decision = replace(decision, seconds=time.monotonic() - started)
        await self._remember(decision)
        return decision

    def calm(self, observation: Observation) -> None:
        """A retry storm is damped before anything else, whatever becomes of this tick."""
        before = self._storm.dampings
        after = self._storm.update(observation, self.curves)
        self._metrics.show_storms(self._settings.topology, after)
        if after == before:
            return
        log.warning("retry storm", mode=self.mode, now=self._storm.why(observation.time) or "over")
        if self.mode == "auto":
            self._push(self.plan)

    async def _decide(
        self, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        settings = self._settings
        self._number += 1
        expected = self._forecast.update(observation.demands, observation.window)

        def hold(why: str, solution: Solution | None = None) -> Decision:
            return self._decision(Action.HOLD, why, observation, curves, self.plan, solution)

        reason = self._refused() or lacking(
            settings.topology, observation, curves, settings.guard, self._clock()
        )
        if reason is not None:
            return hold(reason)
        incumbent = with_default_limits(self.plan, settings.topology)
        problem = Problem(
            topology=self._estimator.topology,
            demands=expected,
            curves={name: curves[name].curve for name in settings.topology.steered_clusters},
            tails={}
            if (q := settings.objective.quantile) is None
            else {name: estimate.tail(q) for name, estimate in curves.items()},
            failures={
                name: observation.clusters[name].failing(observation.window)
                for name in settings.topology.steered_clusters
            },
            incumbent=incumbent,
            objective=settings.objective,
            guard=settings.guard,
            seed=self._number,
            solver=settings.solver,
            circuits=settings.circuits,
        )
        objective = Objective(problem)
        score = objective.of_plan
        if self.mode == "auto":
            over = self._prober.end(self.plan, score, self._clock())
            if (probe := self._prober.current) is not None:
                if over is None:
                    return hold(f"probing the capacity of {probe.cluster}")
                if (refused := await self._put_in_force(probe.base)) is not None:
                    return hold(f"{over}; {refused}")
                why = f"{over}; the plan before it is in force again"
                return self._decision(Action.PUSH, why, observation, curves, probe.base, None)
        try:
            solution = await self._solver.solve(problem, settings.solve_timeout)
        except SolverError as error:
            self._metrics.solver_failures.inc()
            log.warning("solver failed", error=str(error))
            return hold(f"the solver failed: {error}")
        wanted = movable(solution.plan, settings.topology)
        least = objective.limit_ranges(solution.plan, settings.guard.false_open)
        ranges = {
            # A capacity that is hardly known is no reason to turn anyone away.
            name: LimitRange(low, high if curves[name].capacity_error < KNOWN else None)
            for name, (low, high) in least.items()
        }
        guarded = admit(settings.topology, incumbent, wanted, settings.guard, score, ranges)
        if not guarded.moves:
            decision = await self._probe(curves, score, hold(guarded.why, solution))
        elif self.mode == "observe":
            why = f"mode is observe, nothing pushed; {guarded.why}"
            decision = self._decision(
                Action.RECOMMEND, why, observation, curves, guarded.plan, solution
            )
        else:
            refused = await self._put_in_force(guarded.plan)
            if refused is None:
                decision = self._decision(
                    Action.PUSH, guarded.why, observation, curves, guarded.plan, solution
                )
            else:
                decision = hold(refused, solution)
        return replace(decision, cuts=guarded.cuts)

    async def _probe(
        self,
        curves: Mapping[str, CurveEstimate],
        score: Callable[[Plan], float],
        held: Decision,
    ) -> Decision:
        """What becomes of a decision to hold: a probe, if one is due."""
        if self.mode != "auto":
            return held
        probe = self._prober.begin(self.plan, curves, score, self._clock())
        if probe is None:
            return held
        if (refused := await self._put_in_force(probe.plan)) is not None:
            return replace(held, why=f"{held.why}; probe of {probe.cluster} {refused}")
        why = (
            f"probe: the capacity of {probe.cluster} is known to "
            f"{curves[probe.cluster].capacity_error:.0%} only; predicted loss {probe.cost:.1%} "
            f"for {self._settings.guard.probe.seconds:g} s; {held.why}"
        )
        return replace(
            held,
            action=Action.PUSH,
            why=why,
            plan=probe.plan,
            predicted=score(probe.plan),
            predicted_latency=None,
        )

    def _refused(self) -> str | None:
        """Why nothing is tried now that the Envoys refused a plan; None when that is over."""
        if self._refusal is None:
            return None
        until, why = self._refusal
        if (left := until - self._clock()) > 0:
            return f"the last plan is not in force, Envoy refused it ({why}); held for {left:.0f} s"
        self._refusal = None
        return None

    async def _put_in_force(self, plan: Plan) -> str | None:
        """Journal first, then push: a crash in between leaves a plan that a restart serves."""
        try:
            await asyncio.to_thread(self._journal.put_in_force, plan, self._settings.mesh_hash)
        except JournalWriteError as error:
            self._metrics.journal_failures.inc()
            log.error("plan not pushed", error=str(error))
            return f"not pushed, because a restart would forget it: {error}"
        self.plan = plan
        self._push(plan)
        return None

    def _decision(
        self,
        action: Action,
        why: str,
        observation: Observation,
        curves: Mapping[str, CurveEstimate],
        plan: Plan,
        solution: Solution | None,
    ) -> Decision:
        if observation.left_out:
            why = f"{why}; without {', '.join(observation.left_out)}"
        now = self._clock()
        lowered = (self._storm.why(now), self._fast.why(now) if self._fast else "")
        why = "; ".join([*filter(None, lowered), why])
        return Decision(
            number=self._number,
            time=self._clock(),
            action=action,
            why=why,
            plan=plan,
            proposed=solution.plan if solution else None,
            observation=observation,
            curves=curves,
            couplings=self._estimator.topology.strengths,
            candidates=solution.candidates if solution else (),
            predicted=solution.objective if solution else None,
            incumbent_predicted=solution.incumbent_objective if solution else None,
            predicted_latency=solution.predicted_latency if solution else None,
        )

    async def _remember(self, decision: Decision) -> None:
        try:
            await asyncio.to_thread(self._journal.record, decision, self._estimator.to_dict())
        except JournalWriteError as error:
            self._metrics.journal_failures.inc()
            log.error("decision not recorded", number=decision.number, error=str(error))
        self._metrics.show_decision(decision)
        log.info(
            "decision",
            number=decision.number,
            action=decision.action.value,
            why=decision.why,
            winners={c.part: c.solver for c in decision.candidates if c.won},
            seconds=round(decision.seconds, 3),
        )
        async with self._changed:
            self.latest = decision
            self._changed.notify_all()


def movable(plan: Plan, topology: Topology) -> Plan:
    """The plan without the limits that are not to be moved: no bound or step applies to them."""
    return Plan(plan.weights, {c: m for c, m in plan.limits.items() if c not in topology.adaptive})


def with_default_limits(plan: Plan, topology: Topology) -> Plan:
    """The plan with Envoy's default thresholds spelled out where it leaves limits alone."""
    missing = {c: ENVOY_DEFAULT_LIMITS for c in topology.steered_clusters if c not in plan.limits}
    return Plan(plan.weights, {**plan.limits, **missing}) if missing else plan
