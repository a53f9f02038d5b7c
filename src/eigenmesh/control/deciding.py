"""What becomes of one observation: the plan in force stays, is judged, taken back or replaced."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from eigenmesh.control.audit import AuditEntry
from eigenmesh.control.journal import JournalWriteError
from eigenmesh.control.proposal import (
    failing,
    guard_solution,
    make_problem,
    with_default_limits,
)
from eigenmesh.control.trial import within
from eigenmesh.guard import Prober, calendar, lacking
from eigenmesh.guard.admit import step
from eigenmesh.guard.controls import Mode, part
from eigenmesh.guard.peaks import Peaks
from eigenmesh.guard.surge import Surge
from eigenmesh.mesh import (
    Action,
    Check,
    CurveEstimate,
    Decision,
    Observation,
    Plan,
    Verdict,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.optimize.worker import SolverError
from eigenmesh.telemetry.forecast import Forecast

if TYPE_CHECKING:
    from eigenmesh.control.loop import ControlLoop

log = structlog.get_logger(__name__)

_ROLLBACKS = 1000
"""Times that are remembered."""


class Decider:
    """Decides for `loop`, whose turn it is. What it remembers a restart may forget."""

    def __init__(self, loop: ControlLoop) -> None:
        self._loop = loop
        self._forecast = Forecast()
        self._surge = Surge()
        self.peaks = Peaks()
        self.prober = Prober(loop.settings.topology, loop.settings.guard)
        self._expected: Mapping[str, float] = {}
        self._rollbacks: deque[float] = deque(maxlen=_ROLLBACKS)
        self._refusal: tuple[float, str] | None = None

    def refuse(self, why: str) -> None:
        """Nothing is tried for a while; why: what became of the last plan."""
        loop = self._loop
        self._refusal = (loop.clock() + loop.settings.refusal_pause, why)

    def settings_changed(self) -> None:
        settings = self._loop.settings
        self.prober = Prober(settings.topology, settings.guard)

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so much: what is remembered goes along."""
        if self._refusal is not None:
            until, why = self._refusal
            self._refusal = (until + seconds, why)
        self._rollbacks = deque((time + seconds for time in self._rollbacks), maxlen=_ROLLBACKS)
        self.prober.shift(seconds)
        self.peaks.shift(seconds)

    async def decide(
        self, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        loop = self._loop
        settings, now = loop.settings, loop.clock()
        self._expected = self._forecast.update(observation.demands, observation.window)
        growth = self._surge.update(observation.demands)
        self.peaks.update(observation.demands, observation.time, observation.window)
        if loop.controls.target is not None:
            return await self._go_back(loop.controls.target, observation, curves)
        # A cluster that fails is left at once, whatever became of the last plan.
        urgent = loop.relies_on(failing(observation, curves))
        reason = (None if urgent else self._refused()) or lacking(
            settings.topology, observation, curves, loop.policy, now
        )
        if reason is not None:
            return self._hold(reason, observation, curves)
        check = await self._verify(observation, curves)
        if check is not None and check.verdict is Verdict.WORSE:
            return replace(await self._roll_back(check, observation, curves), check=check)
        decision = await self._propose(observation, curves, growth)
        return replace(decision, check=check)

    async def _propose(
        self,
        observation: Observation,
        curves: Mapping[str, CurveEstimate],
        growth: Mapping[str, float],
    ) -> Decision:
        """What becomes of the solver's plan."""
        loop = self._loop
        settings, policy = loop.settings, loop.policy
        problem = self.problem(observation, curves)
        objective = Objective(problem)
        score = objective.of_plan
        if (over := await self._end_probe(score, observation, curves)) is not None:
            return over
        try:
            log.debug("tick", stage="solving")
            solution = await loop.solver.solve(problem, settings.solve_timeout)
        except SolverError as error:
            loop.metrics.solver_failures.inc()
            log.warning("solver failed", error=str(error))
            return self._hold(f"the solver failed: {error}", observation, curves)
        guarded = guard_solution(
            objective,
            solution,
            settings.topology,
            curves,
            growth,
            self.peaks.over(self._expected),
            self.peaks.means(self._expected),
            policy,
        )
        decision = self._decision(
            Action.HOLD, guarded.why, observation, curves, loop.plan, solution
        )
        decision = replace(decision, cuts=guarded.cuts)
        if not guarded.moves:
            if not loop.approvals.is_worth_it(score, problem.incumbent, policy.min_gain):
                await loop.wait_for(None)
            return await self._probe(curves, score, decision)
        return await self._act(guarded.plan, score, problem.incumbent, decision)

    def problem(
        self,
        observation: Observation,
        curves: Mapping[str, CurveEstimate],
        demands: Mapping[str, float] | None = None,
    ) -> Problem:
        """What the solver is asked now; demands: instead of those that are expected."""
        loop = self._loop
        return make_problem(
            loop.settings,
            loop.estimator.topology,
            loop.plan,
            loop.policy,
            demands=demands or self._expected,
            observation=observation,
            curves=curves,
            seed=loop.number,
        )

    async def _act(
        self,
        plan: Plan,
        score: Callable[[Plan], float],
        incumbent: Plan,
        decision: Decision,
    ) -> Decision:
        """What may be done with a plan that the guard passed; `decision` says why it passed."""
        loop = self._loop
        why, now = decision.why, loop.clock()
        if loop.mode is Mode.OBSERVE:
            why = f"mode is observe, nothing pushed; {why}"
            return replace(decision, action=Action.RECOMMEND, why=why, plan=plan)
        stop = loop.controls.stops(now) or calendar.stops(loop.policy, loop.pushes, now)
        if stop is not None:
            why = f"{stop}, nothing pushed; {why}"
            return replace(decision, action=Action.RECOMMEND, why=why, plan=plan)
        free = part(plan, incumbent, loop.controls, Mode.AUTO)
        whole = part(plan, incumbent, loop.controls, Mode.AUTO, Mode.APPROVE)
        if free != incumbent:
            if (refused := await loop.put_in_force(free)) is not None:
                return replace(decision, action=Action.HOLD, why=refused, plan=loop.plan)
            decision = replace(decision, action=Action.PUSH, plan=free)
        if whole == free:
            if free == incumbent:
                return replace(decision, why=f"only observed where it would move; {why}")
            return decision
        return await self._offer(whole, score, decision)

    async def _offer(
        self, plan: Plan, score: Callable[[Plan], float], decision: Decision
    ) -> Decision:
        """A plan, or the rest of one, that needs a yes."""
        loop = self._loop
        approvals, why = loop.approvals, decision.why
        least = loop.policy.min_gain
        if not approvals.is_worth_it(score, decision.plan, least):
            await loop.wait_for(None)
        if (quiet := approvals.quiet(loop.clock())) is not None:
            return replace(decision, why=f"{quiet}; {why}")
        if not approvals.is_better(plan, score, least):
            assert approvals.pending is not None
            return replace(decision, why=f"decision {approvals.pending.number} waits for a yes")
        waiting = replace(decision, action=Action.AWAIT, why=f"waits for a yes; {why}", plan=plan)
        await loop.wait_for(waiting)
        log.warning("a plan waits for a yes", number=decision.number, why=why)
        if decision.action is Action.PUSH:
            return replace(decision, why=f"{why}; the rest waits for a yes")
        return waiting

    async def _verify(
        self, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Check | None:
        """Whether the plan in force keeps its promise; None while that cannot be said."""
        loop = self._loop
        emergency = loop.storm.dampings or (loop.fast is not None and loop.fast.limits)
        if not loop.settings.guard.verify.enabled:
            return None
        if loop.mode is Mode.OBSERVE or self.prober.current is not None or emergency:
            return None
        good = loop.trial.good
        check = await asyncio.to_thread(loop.trial.update, loop.plan, observation, curves)
        if check is None:
            return None
        if loop.trial.good != good:
            log.info("verified", verdict=check.verdict, why=check.why)
            # A restart goes on from it. If this is lost, the plan is on trial once more.
            with suppress(JournalWriteError):
                await asyncio.to_thread(
                    loop.journal.put_in_force,
                    loop.plan,
                    loop.settings.mesh_hash,
                    loop.trial.good,
                )
        loop.metrics.show_check(check)
        return check

    async def _roll_back(
        self, check: Check, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        """The plan in force did not keep its promise: back to the last one that did."""
        loop = self._loop
        now, policy = loop.clock(), loop.settings.guard.verify
        self._rollbacks.append(now)
        loop.metrics.rollbacks.inc()
        self.refuse(f"it was rolled back ({check.why})")
        why = f"rolled back to the last good plan: {check.why}"
        controls = replace(loop.controls, target=loop.trial.good, target_why=why)
        count = within(self._rollbacks, policy.within, now)
        if policy.rollbacks and count >= policy.rollbacks:
            held = f"{count} rollbacks in {policy.within:g} s, the last one: {check.why}"
            controls = replace(controls, held=held)
            log.error("steering is held until somebody resumes it", why=held)
        log.error("rolling back", why=why)
        entry = AuditEntry(now, "eigenmesh", "RollBack", {"why": why})
        try:
            await loop.put_controls(controls, entry)
        except JournalWriteError:
            loop.controls = controls  # not to be forgotten as long as this runs
        assert controls.target is not None
        return await self._go_back(controls.target, observation, curves)

    async def _go_back(
        self, target: Plan, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        """One bounded step toward a plan that was in force before."""
        loop = self._loop
        why = loop.controls.target_why
        incumbent = with_default_limits(loop.plan, loop.settings.topology)
        plan = step(incumbent, target, loop.policy)
        if plan == target:
            loop.trial.settle(plan)
        if (refused := await loop.put_in_force(plan, kind="back")) is not None:
            return self._hold(f"{why}; {refused}", observation, curves)
        if plan == target:
            entry = AuditEntry(loop.clock(), "eigenmesh", "Arrived", {"why": why})
            with suppress(JournalWriteError):
                await loop.put_controls(replace(loop.controls, target=None, target_why=""), entry)
            why = f"{why}; it is in force"
        else:
            why = f"{why}; its weights are {plan.distance(target):.0%} away"
        return self._decision(Action.ROLLBACK, why, observation, curves, plan, None)

    async def _end_probe(
        self,
        score: Callable[[Plan], float],
        observation: Observation,
        curves: Mapping[str, CurveEstimate],
    ) -> Decision | None:
        """What a probe that is under way, or over, makes of this tick."""
        loop = self._loop
        if loop.mode is not Mode.AUTO:
            return None
        over = self.prober.end(loop.plan, score, loop.clock())
        if (probe := self.prober.current) is None:
            return None
        if over is None:
            return self._hold(f"probing the capacity of {probe.cluster}", observation, curves)
        if (refused := await loop.put_in_force(probe.base, kind="probe")) is not None:
            return self._hold(f"{over}; {refused}", observation, curves)
        why = f"{over}; the plan before it is in force again"
        return self._decision(Action.PUSH, why, observation, curves, probe.base, None)

    async def _probe(
        self,
        curves: Mapping[str, CurveEstimate],
        score: Callable[[Plan], float],
        held: Decision,
    ) -> Decision:
        """What becomes of a decision to hold: a probe, if one is due."""
        loop = self._loop
        now, guard = loop.clock(), loop.settings.guard
        if loop.mode is not Mode.AUTO or loop.controls.routes or loop.trial.on_trial:
            return held
        if loop.controls.stops(now) or calendar.stops(loop.policy, loop.pushes, now):
            return held
        probe = self.prober.begin(loop.plan, curves, score, now)
        if probe is None:
            return held
        if (refused := await loop.put_in_force(probe.plan, kind="probe")) is not None:
            return replace(held, why=f"{held.why}; probe of {probe.cluster} {refused}")
        why = (
            f"probe: the capacity of {probe.cluster} is known to "
            f"{curves[probe.cluster].capacity_error:.0%} only; predicted loss {probe.cost:.1%} "
            f"for {guard.probe.seconds:g} s; {held.why}"
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
        """Why nothing is tried now that a plan was taken back; None when that is over."""
        if self._refusal is None:
            return None
        until, why = self._refusal
        if (left := until - self._loop.clock()) > 0:
            return f"the last plan is not in force, {why}; held for {left:.0f} s"
        self._refusal = None
        return None

    def _hold(
        self, why: str, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        return self._decision(Action.HOLD, why, observation, curves, self._loop.plan, None)

    def _decision(
        self,
        action: Action,
        why: str,
        observation: Observation,
        curves: Mapping[str, CurveEstimate],
        plan: Plan,
        solution: Solution | None,
    ) -> Decision:
        loop = self._loop
        if observation.left_out:
            why = f"{why}; without {', '.join(observation.left_out)}"
        now = loop.clock()
        lowered = (loop.storm.why(now), loop.fast.why(now) if loop.fast else "")
        why = "; ".join([*filter(None, lowered), why])
        return Decision(
            number=loop.number,
            time=loop.clock(),
            action=action,
            why=why,
            plan=plan,
            proposed=solution.plan if solution else None,
            observation=observation,
            curves=curves,
            couplings=loop.estimator.topology.strengths,
            candidates=solution.candidates if solution else (),
            predicted=solution.objective if solution else None,
            incumbent_predicted=solution.incumbent_objective if solution else None,
            predicted_latency=solution.predicted_latency if solution else None,
        )
