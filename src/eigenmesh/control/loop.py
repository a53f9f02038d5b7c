"""The control loop: observe -> estimate -> optimise -> guard -> push -> remember.

One tick at a time, on the event loop that also serves xDS. Whatever computes runs elsewhere:
solving in the worker process, estimating and the journal in threads.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from eigenmesh.control.approval import Approvals
from eigenmesh.control.audit import AuditEntry
from eigenmesh.control.journal import Journal, JournalWriteError
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.proposal import (
    LoopSettings,
    Solver,
    guard_solution,
    make_problem,
    with_default_limits,
)
from eigenmesh.control.trial import Trial, within
from eigenmesh.guard import FastGuard, Prober, Storm, calendar, lacking
from eigenmesh.guard.admit import step
from eigenmesh.guard.controls import Controls, Mode, effective, hear, known_part, part
from eigenmesh.guard.surge import Surge
from eigenmesh.mesh import (
    Action,
    Check,
    CurveEstimate,
    Decision,
    GuardPolicy,
    Observation,
    Plan,
    Verdict,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.optimize.worker import SolverError
from eigenmesh.telemetry.coupled import CoupledEstimator
from eigenmesh.telemetry.forecast import Forecast
from eigenmesh.telemetry.source import Source

log = structlog.get_logger(__name__)

_PUSHES = 1000
"""Times that are remembered: more than any limit of changes in an hour."""


@dataclass(frozen=True)
class Change:
    """Other settings for a loop that runs. told, names: see `guard.controls.hear` and `reload`.

    carry: what becomes of a plan under them. prepare: called in a thread, gets everything else
    ready for the plan; what it returns puts that in place.
    """

    settings: LoopSettings
    told: Mapping[str, str]
    names: Sequence[str]
    source: Source
    fast: FastGuard | None
    carry: Callable[[Plan], Plan]
    prepare: Callable[[Plan], Callable[[], None]]


class ControlLoop:
    """`push` makes a plan, with what `storm` and `fast` say over it, the one that xDS serves; it
    must not block. `fast`: something looks at the mesh between ticks, and calls `calm`.

    `observed` is told every observation before it is decided on. good: the last plan that kept its
    promise, if it is not the one in force. pushes: times of the last pushes (unix seconds).

    `plan` is the plan in force, `latest` the newest decision, `confirmed` the last plan that the
    Envoys are known to have taken, `controls` what people asked. Whoever changes anything holds
    `turn`.
    """

    def __init__(
        self,
        settings: LoopSettings,
        *,
        plan: Plan,
        controls: Controls,
        number: int,
        source: Source,
        estimator: CoupledEstimator,
        solver: Solver,
        journal: Journal,
        push: Callable[[Plan], None],
        metrics: Metrics,
        good: Plan | None = None,
        pushes: Sequence[float] = (),
        pending: Decision | None = None,
        observed: Callable[[Observation], Awaitable[None]] | None = None,
        storm: Storm | None = None,
        fast: FastGuard | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.plan = plan
        self.controls = controls
        self.latest: Decision | None = None
        self.confirmed = plan
        self.turn = asyncio.Lock()
        self.approvals = Approvals(pending)
        self.trial = Trial(
            settings.topology, good or plan, settings.guard.verify, settings.objective
        )
        if good is not None and good != plan:
            self.trial.depart(clock())
        self._refusal: tuple[float, str] | None = None
        self._number = number
        self._source = source
        self._estimator = estimator
        self._forecast = Forecast()
        self._surge = Surge()
        self._prober = Prober(settings.topology, settings.guard)
        self._storm = storm or Storm(settings.guard.storm)
        self._fast = fast
        self._expected: Mapping[str, float] = {}
        self.curves: Mapping[str, CurveEstimate] = {}
        self._pushes = deque(pushes, maxlen=_PUSHES)
        self._rollbacks: deque[float] = deque(maxlen=_PUSHES)
        self.solver = solver
        self._journal = journal
        self._push = push
        self._metrics = metrics
        self._observed = observed
        self.clock = clock
        self._changed = asyncio.Condition()
        self._hurried = asyncio.Event()
        metrics.show_plan(plan)

    @property
    def mode(self) -> Mode:
        return self.controls.mode

    @property
    def policy(self) -> GuardPolicy:
        """The guard's, under what people asked, with the plan in force."""
        return effective(self.settings.guard, self.controls, self.plan)

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
            log.debug("tick", stage="waiting")
            left = max(0.05, self.settings.interval - (time.monotonic() - started))
            self._hurried.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), left)

    def hurry(self, failing: Collection[str]) -> None:
        """The next tick begins at once, if a route sends any more than a probe to one of these."""
        probe = 2.0 * self.settings.guard.probe_floor
        used = {
            name
            for split in self.plan.weights.values()
            for name, weight in split.items()
            if weight > probe and len(split) > 1
        }
        if self.mode is not Mode.OBSERVE and not used.isdisjoint(failing):
            self._hurried.set()

    async def apply(self, change: Change) -> None:
        """Goes on with other settings, from between two ticks. Raises JournalWriteError when the
        plan cannot be recorded, and what `prepare` raises; nothing was changed then."""
        async with self.turn:
            settings, before = change.settings, self.settings
            probe = self._prober.current
            probing = probe is not None and self.plan == probe.plan
            plan = change.carry(probe.base if probe is not None and probing else self.plan)
            good = change.carry(self.trial.good)
            install = await asyncio.to_thread(change.prepare, plan)
            if plan != self.plan or settings.mesh_hash != before.mesh_hash:
                await asyncio.to_thread(self._journal.put_in_force, plan, settings.mesh_hash, good)
                await self.wait_for(None)
            install()
            if settings.topology != before.topology:
                known = self._estimator.to_dict()
                self._estimator = CoupledEstimator.from_dict(settings.topology, known)
                self.curves = {}
            self.settings, self._source, self._fast = settings, change.source, change.fast
            self.plan, self.confirmed = plan, change.carry(self.confirmed)
            self._prober = Prober(settings.topology, settings.guard)
            self._storm.policy = settings.guard.storm
            self.trial = Trial(settings.topology, good, settings.guard.verify, settings.objective)
            if good != plan:
                self.trial.depart(self.clock())
            await self._hear(change)
            self._metrics.forget_names()
            self._metrics.show_plan(plan)
            self._push(plan)
            self._hurried.set()  # the interval may be another

    async def _hear(self, change: Change) -> None:
        """What the settings say of modes, and what they have no more."""
        controls = known_part(hear(self.controls, change.told), change.settings.topology)
        if controls.target is not None:
            controls = replace(controls, target=change.carry(controls.target))
        entry = AuditEntry(self.clock(), "settings", "Apply", {"changed": list(change.names)})
        try:
            await self.put_controls(controls, entry)
        except JournalWriteError as error:
            # A restart reads the settings, too.
            log.error("settings not on record", error=str(error))
            self.controls = controls

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so much: what is remembered goes along."""
        if self._refusal is not None:
            until, why = self._refusal
            self._refusal = (until + seconds, why)
        for times in (self._pushes, self._rollbacks):
            moved = [time + seconds for time in times]
            times.clear()
            times.extend(moved)
        for part_ in (self.trial, self.approvals, self._prober, self._storm, self._fast):
            if part_ is not None:
                part_.shift(seconds)

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
        async with self.turn:
            return await self._tick()

    async def put_controls(self, controls: Controls, entry: AuditEntry) -> None:
        """What people ask from now on; call it with `turn` held. Raises JournalWriteError when it
        cannot be recorded; nothing is changed then."""
        await asyncio.to_thread(self._journal.put_controls, controls.to_dict(), entry)
        before, self.controls = self.controls, controls
        log.info("asked", action=entry.action, by=entry.who, **entry.detail)
        if controls.mode is not before.mode and self._storm.dampings:
            # Seen under the other mode; to be let go of, or begun, from the start.
            self._storm.forget()
            self._push(self.plan)
        if controls.mode is not before.mode:
            await self.wait_for(None)

    async def push_pending(self, by: str) -> Decision:
        """The plan that waits for a yes has got it; call it with `turn` held, and only if one does.
        A plan that could not be pushed waits on: the decision then says why."""
        waiting = self.approvals.pending
        assert waiting is not None
        why = f"approved by {by}: decision {waiting.number}"
        plan = part(waiting.plan, self.plan, self.controls, Mode.AUTO, Mode.APPROVE)
        refused = await self._put_in_force(plan)
        self._number += 1
        decision = replace(
            waiting,
            number=self._number,
            time=self.clock(),
            action=Action.HOLD if refused else Action.PUSH,
            why=refused or why,
            plan=self.plan,
            check=None,
            seconds=0.0,
        )
        if refused is None:
            await self.wait_for(None)
        await self._remember(decision)
        return decision

    async def wait_for(self, decision: Decision | None) -> None:
        """This one's plan waits for a yes; None: none does."""
        if decision is self.approvals.pending:
            return
        self.approvals.pending = decision
        # If this is lost, a restart proposes anew.
        with suppress(JournalWriteError):
            number = None if decision is None else decision.number
            await asyncio.to_thread(self._journal.set_pending, number)

    async def take_back(self, why: str) -> None:
        """The Envoys kept refusing the plan in force: the last one that they took is in force
        again, and no other is tried for a while."""
        async with self.turn:
            if self.plan == self.confirmed:
                return
            log.error("plan refused; the last one that was taken is in force", reason=why)
            self._metrics.plans_refused.inc()
            self._refusal = (
                self.clock() + self.settings.refusal_pause,
                f"Envoy refused it ({why})",
            )
            self.trial.settle(self.confirmed)
            if await self._put_in_force(self.confirmed, kind="back") is not None:
                # Unlike a new plan this one is in force already, journaled or not.
                self.plan = self.confirmed
                self._push(self.plan)

    async def _tick(self) -> Decision:
        started = time.monotonic()
        log.debug("tick", stage="observing")
        observation = await self._source.observe(self.clock())
        if self._fast is None:
            self.calm(observation)
        if self._observed is not None:
            await self._observed(observation)
        log.debug("tick", stage="estimating")
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
        self._metrics.show_storms(self.settings.topology, after)
        if after == before:
            return
        log.warning("retry storm", mode=self.mode, now=self._storm.why(observation.time) or "over")
        if self.mode is Mode.AUTO:
            self._push(self.plan)

    async def _decide(
        self, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        settings, now = self.settings, self.clock()
        self._number += 1
        self._expected = self._forecast.update(observation.demands, observation.window)
        growth = self._surge.update(observation.demands)
        if self.controls.target is not None:
            return await self._go_back(self.controls.target, observation, curves)
        reason = self._refused() or lacking(
            settings.topology, observation, curves, settings.guard, now
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
        settings, policy = self.settings, self.policy
        problem = self.problem(observation, curves)
        objective = Objective(problem)
        score = objective.of_plan
        if (over := await self._end_probe(score, observation, curves)) is not None:
            return over
        try:
            log.debug("tick", stage="solving")
            solution = await self.solver.solve(problem, settings.solve_timeout)
        except SolverError as error:
            self._metrics.solver_failures.inc()
            log.warning("solver failed", error=str(error))
            return self._hold(f"the solver failed: {error}", observation, curves)
        guarded = guard_solution(objective, solution, settings.topology, curves, growth, policy)
        decision = self._decision(
            Action.HOLD, guarded.why, observation, curves, self.plan, solution
        )
        decision = replace(decision, cuts=guarded.cuts)
        if not guarded.moves:
            if not self.approvals.is_worth_it(score, problem.incumbent, policy.min_gain):
                await self.wait_for(None)
            return await self._probe(curves, score, decision)
        return await self._act(guarded.plan, score, problem.incumbent, decision)

    def problem(
        self,
        observation: Observation,
        curves: Mapping[str, CurveEstimate],
        demands: Mapping[str, float] | None = None,
    ) -> Problem:
        """What the solver is asked now; demands: instead of those that are expected."""
        return make_problem(
            self.settings,
            self._estimator.topology,
            self.plan,
            self.policy,
            demands=demands or self._expected,
            observation=observation,
            curves=curves,
            seed=self._number,
        )

    async def _act(
        self,
        plan: Plan,
        score: Callable[[Plan], float],
        incumbent: Plan,
        decision: Decision,
    ) -> Decision:
        """What may be done with a plan that the guard passed; `decision` says why it passed."""
        why, now = decision.why, self.clock()
        if self.mode is Mode.OBSERVE:
            why = f"mode is observe, nothing pushed; {why}"
            return replace(decision, action=Action.RECOMMEND, why=why, plan=plan)
        stop = self.controls.stops(now) or calendar.stops(self.settings.guard, self._pushes, now)
        if stop is not None:
            why = f"{stop}, nothing pushed; {why}"
            return replace(decision, action=Action.RECOMMEND, why=why, plan=plan)
        free = part(plan, incumbent, self.controls, Mode.AUTO)
        whole = part(plan, incumbent, self.controls, Mode.AUTO, Mode.APPROVE)
        if free != incumbent:
            if (refused := await self._put_in_force(free)) is not None:
                return replace(decision, action=Action.HOLD, why=refused, plan=self.plan)
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
        approvals, why = self.approvals, decision.why
        least = self.policy.min_gain
        if not approvals.is_worth_it(score, decision.plan, least):
            await self.wait_for(None)
        if (quiet := approvals.quiet(self.clock())) is not None:
            return replace(decision, why=f"{quiet}; {why}")
        if not approvals.is_better(plan, score, least):
            assert approvals.pending is not None
            return replace(decision, why=f"decision {approvals.pending.number} waits for a yes")
        waiting = replace(decision, action=Action.AWAIT, why=f"waits for a yes; {why}", plan=plan)
        await self.wait_for(waiting)
        log.warning("a plan waits for a yes", number=decision.number, why=why)
        if decision.action is Action.PUSH:
            return replace(decision, why=f"{why}; the rest waits for a yes")
        return waiting

    async def _verify(
        self, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Check | None:
        """Whether the plan in force keeps its promise; None while that cannot be said."""
        emergency = self._storm.dampings or (self._fast is not None and self._fast.limits)
        if not self.settings.guard.verify.enabled:
            return None
        if self.mode is Mode.OBSERVE or self._prober.current is not None or emergency:
            return None
        good = self.trial.good
        check = await asyncio.to_thread(self.trial.update, self.plan, observation, curves)
        if check is None:
            return None
        if self.trial.good != good:
            log.info("verified", verdict=check.verdict, why=check.why)
            # A restart goes on from it. If this is lost, the plan is on trial once more.
            with suppress(JournalWriteError):
                await asyncio.to_thread(
                    self._journal.put_in_force,
                    self.plan,
                    self.settings.mesh_hash,
                    self.trial.good,
                )
        self._metrics.show_check(check)
        return check

    async def _roll_back(
        self, check: Check, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        """The plan in force did not keep its promise: back to the last one that did."""
        now, policy = self.clock(), self.settings.guard.verify
        self._rollbacks.append(now)
        self._metrics.rollbacks.inc()
        self._refusal = (now + self.settings.refusal_pause, f"it was rolled back ({check.why})")
        why = f"rolled back to the last good plan: {check.why}"
        controls = replace(self.controls, target=self.trial.good, target_why=why)
        count = within(self._rollbacks, policy.within, now)
        if policy.rollbacks and count >= policy.rollbacks:
            held = f"{count} rollbacks in {policy.within:g} s, the last one: {check.why}"
            controls = replace(controls, held=held)
            log.error("steering is held until somebody resumes it", why=held)
        log.error("rolling back", why=why)
        entry = AuditEntry(now, "eigenmesh", "RollBack", {"why": why})
        try:
            await self.put_controls(controls, entry)
        except JournalWriteError:
            self.controls = controls  # not to be forgotten as long as this runs
        assert controls.target is not None
        return await self._go_back(controls.target, observation, curves)

    async def _go_back(
        self, target: Plan, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        """One bounded step toward a plan that was in force before."""
        why = self.controls.target_why
        incumbent = with_default_limits(self.plan, self.settings.topology)
        plan = step(incumbent, target, self.policy)
        if plan == target:
            self.trial.settle(plan)
        if (refused := await self._put_in_force(plan, kind="back")) is not None:
            return self._hold(f"{why}; {refused}", observation, curves)
        if plan == target:
            entry = AuditEntry(self.clock(), "eigenmesh", "Arrived", {"why": why})
            with suppress(JournalWriteError):
                await self.put_controls(replace(self.controls, target=None, target_why=""), entry)
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
        if self.mode is not Mode.AUTO:
            return None
        over = self._prober.end(self.plan, score, self.clock())
        if (probe := self._prober.current) is None:
            return None
        if over is None:
            return self._hold(f"probing the capacity of {probe.cluster}", observation, curves)
        if (refused := await self._put_in_force(probe.base, kind="probe")) is not None:
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
        now, guard = self.clock(), self.settings.guard
        if self.mode is not Mode.AUTO or self.controls.routes or self.trial.on_trial:
            return held
        if self.controls.stops(now) or calendar.stops(guard, self._pushes, now):
            return held
        probe = self._prober.begin(self.plan, curves, score, now)
        if probe is None:
            return held
        if (refused := await self._put_in_force(probe.plan, kind="probe")) is not None:
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
        if (left := until - self.clock()) > 0:
            return f"the last plan is not in force, {why}; held for {left:.0f} s"
        self._refusal = None
        return None

    async def _put_in_force(
        self, plan: Plan, kind: Literal["plan", "probe", "back"] = "plan"
    ) -> str | None:
        """Journal first, then push: a crash in between leaves a plan that a restart serves."""
        log.debug("tick", stage="journaling")
        mesh, good = self.settings.mesh_hash, self.trial.good
        try:
            await asyncio.to_thread(self._journal.put_in_force, plan, mesh, good)
        except JournalWriteError as error:
            self._metrics.journal_failures.inc()
            log.error("plan not pushed", error=str(error))
            return f"not pushed, because a restart would forget it: {error}"
        log.debug("tick", stage="pushing")
        self.plan = plan
        self._push(plan)
        if kind != "back":
            self._pushes.append(self.clock())
        if kind == "plan":
            self.trial.depart(self.clock())
        return None

    def _hold(
        self, why: str, observation: Observation, curves: Mapping[str, CurveEstimate]
    ) -> Decision:
        return self._decision(Action.HOLD, why, observation, curves, self.plan, None)

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
        now = self.clock()
        lowered = (self._storm.why(now), self._fast.why(now) if self._fast else "")
        why = "; ".join([*filter(None, lowered), why])
        return Decision(
            number=self._number,
            time=self.clock(),
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
        log.debug("tick", stage="recording")
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
