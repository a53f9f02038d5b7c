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
from eigenmesh.control.deciding import Decider
from eigenmesh.control.journal import Journal, JournalWriteError
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.proposal import LoopSettings, Solver, let_in, meanwhile
from eigenmesh.control.trial import Trial
from eigenmesh.guard import FastGuard, Storm
from eigenmesh.guard.controls import Controls, Mode, effective, hear, known_part, part
from eigenmesh.mesh import (
    Action,
    CurveEstimate,
    Decision,
    GuardPolicy,
    Observation,
    Plan,
)
from eigenmesh.telemetry.coupled import CoupledEstimator
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
        self.number = number
        self._source = source
        self.estimator = estimator
        self.storm = storm or Storm(settings.guard.storm)
        self.fast = fast
        self.curves: Mapping[str, CurveEstimate] = {}
        self._let_in: Mapping[str, float] = {}
        self.pushes = deque(pushes, maxlen=_PUSHES)
        self.solver = solver
        self.journal = journal
        self._push = push
        self.metrics = metrics
        self._observed = observed
        self.clock = clock
        self._changed = asyncio.Condition()
        self._hurried = asyncio.Event()
        self.decider = Decider(self)
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
        """The next tick begins at once, if the plan relies on one of these."""
        if self.mode is not Mode.OBSERVE and self.relies_on(failing):
            self._hurried.set()

    def relies_on(self, clusters: Collection[str]) -> bool:
        """Whether a route that has others sends more than a probe to one of these."""
        probe = 2.0 * self.settings.guard.probe_floor
        return any(
            weight > probe and name in clusters
            for split in self.plan.weights.values()
            if len(split) > 1
            for name, weight in split.items()
        )

    async def apply(self, change: Change) -> None:
        """Goes on with other settings, from between two ticks. Raises JournalWriteError when the
        plan cannot be recorded, and what `prepare` raises; nothing was changed then."""
        async with self.turn:
            settings, before = change.settings, self.settings
            probe = self.decider.prober.current
            probing = probe is not None and self.plan == probe.plan
            plan = change.carry(probe.base if probe is not None and probing else self.plan)
            good = change.carry(self.trial.good)
            install = await asyncio.to_thread(change.prepare, plan)
            if plan != self.plan or settings.mesh_hash != before.mesh_hash:
                await asyncio.to_thread(self.journal.put_in_force, plan, settings.mesh_hash, good)
                await self.wait_for(None)
            install()
            if settings.topology != before.topology:
                known = self.estimator.to_dict()
                self.estimator = CoupledEstimator.from_dict(settings.topology, known)
                self.curves = {}
            self.settings, self._source, self.fast = settings, change.source, change.fast
            self.plan, self.confirmed = plan, change.carry(self.confirmed)
            self.decider.settings_changed()
            self.storm.policy = settings.guard.storm
            self.trial = Trial(settings.topology, good, settings.guard.verify, settings.objective)
            if good != plan:
                self.trial.depart(self.clock())
            await self._hear(change)
            self.metrics.forget_names()
            self.metrics.show_plan(plan)
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
        self.pushes = deque((time + seconds for time in self.pushes), maxlen=_PUSHES)
        for part_ in (self.decider, self.trial, self.approvals, self.storm, self.fast):
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
        await asyncio.to_thread(self.journal.put_controls, controls.to_dict(), entry)
        before, self.controls = self.controls, controls
        log.info("asked", action=entry.action, by=entry.who, **entry.detail)
        if controls.mode is not before.mode and self.storm.dampings:
            # Seen under the other mode; to be let go of, or begun, from the start.
            self.storm.forget()
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
        refused = await self.put_in_force(plan)
        self.number += 1
        decision = replace(
            waiting,
            number=self.number,
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
            await asyncio.to_thread(self.journal.set_pending, number)

    async def take_back(self, why: str) -> None:
        """The Envoys kept refusing the plan in force: the last one that they took is in force
        again, and no other is tried for a while."""
        async with self.turn:
            if self.plan == self.confirmed:
                return
            log.error("plan refused; the last one that was taken is in force", reason=why)
            self.metrics.plans_refused.inc()
            self.decider.refuse(f"Envoy refused it ({why})")
            self.trial.settle(self.confirmed)
            if await self.put_in_force(self.confirmed, kind="back") is not None:
                # Unlike a new plan this one is in force already, journaled or not.
                self.plan = self.confirmed
                self._push(self.plan)

    async def _tick(self) -> Decision:
        started = time.monotonic()
        log.debug("tick", stage="observing")
        observation = await self._source.observe(self.clock())
        if self.fast is None:
            self.calm(observation)
        if self._observed is not None:
            await self._observed(observation)
        log.debug("tick", stage="estimating")
        # Numpy on a thread: the fit of many clusters must not hold up xDS.
        limits = meanwhile(self._let_in, self._lets_in())
        curves = await asyncio.to_thread(
            self.estimator.update, observation, self.plan.weights, limits
        )
        self.curves = curves
        self.number += 1
        decision = await self.decider.decide(observation, dict(curves))
        decision = replace(decision, seconds=time.monotonic() - started)
        self._let_in = self._lets_in()
        await self._remember(decision)
        return decision

    def _lets_in(self) -> dict[str, float]:
        """Cluster -> requests in flight that are let in now, where that is decided here."""
        plan = self.plan
        if self.mode is Mode.AUTO:
            plan = self.storm.over(plan)
            if self.fast is not None:
                plan = self.fast.over(plan)
        return let_in(plan, self.settings)

    def calm(self, observation: Observation) -> None:
        """A retry storm is damped before anything else, whatever becomes of this tick."""
        before = self.storm.dampings
        after = self.storm.update(observation, self.curves)
        self.metrics.show_storms(self.settings.topology, after)
        if after == before:
            return
        log.warning("retry storm", mode=self.mode, now=self.storm.why(observation.time) or "over")
        if self.mode is Mode.AUTO:
            self._push(self.plan)

    async def put_in_force(
        self, plan: Plan, kind: Literal["plan", "probe", "back"] = "plan"
    ) -> str | None:
        """Journal first, then push: a crash in between leaves a plan that a restart serves."""
        log.debug("tick", stage="journaling")
        mesh, good = self.settings.mesh_hash, self.trial.good
        try:
            await asyncio.to_thread(self.journal.put_in_force, plan, mesh, good)
        except JournalWriteError as error:
            self.metrics.journal_failures.inc()
            log.error("plan not pushed", error=str(error))
            return f"not pushed, because a restart would forget it: {error}"
        log.debug("tick", stage="pushing")
        self.plan = plan
        self._push(plan)
        if kind != "back":
            self.pushes.append(self.clock())
        if kind == "plan":
            self.trial.depart(self.clock(), self.curves)
        return None

    async def _remember(self, decision: Decision) -> None:
        log.debug("tick", stage="recording")
        try:
            await asyncio.to_thread(self.journal.record, decision, self.estimator.to_dict())
        except JournalWriteError as error:
            self.metrics.journal_failures.inc()
            log.error("decision not recorded", number=decision.number, error=str(error))
        self.metrics.show_decision(decision)
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
