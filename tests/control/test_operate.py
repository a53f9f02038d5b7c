"""Each thing that stops, bounds or undoes what the loop does, as the only one that does.

The mesh is simulated queues, the solver one that always wants the same plan: whatever keeps that
from the mesh is what is tested.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eigenmesh.control.journal import Journal, JournalWriteError
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.operations import NotFoundError, Operations, StateError
from eigenmesh.control.proposal import LoopSettings
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import (
    Action,
    Bounds,
    BreakerLimits,
    Cluster,
    ClusterObservation,
    Decision,
    FreezeWindow,
    GuardPolicy,
    LatencyCurve,
    MeshError,
    ObjectivePolicy,
    Observation,
    Plan,
    Route,
    Topology,
    Verdict,
    VerifyPolicy,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.telemetry.coupled import CoupledEstimator

TOPOLOGY = Topology((Cluster("a"), Cluster("b")), (Route("shop", ("a", "b")),))
CURVES = {"a": LatencyCurve(0.02, 400.0), "b": LatencyCurve(0.02, 400.0)}
INTERVAL, START = 5.0, 1_700_000_000.0
OPEN = GuardPolicy(
    bounds=Bounds(0.0, 1.0),
    max_step=1.0,
    deadband=0.0,
    probe_floor=0.0,
    min_gain=-1e9,
    surge=1e9,
    max_limit_step=1e9,
    verify=VerifyPolicy(enabled=False),
)


def plan(a: float) -> Plan:
    return Plan({"shop": {"a": a, "b": 1.0 - a}}, {})


NOW, WANTED = plan(0.5), plan(0.8)


class Queues:
    """slow: cluster -> by how much slower than its curve says, by the load."""

    def __init__(self) -> None:
        self.plan, self.demand = NOW, 200.0
        self.slow: dict[str, Callable[[float], float]] = {}
        self.missing: dict[str, str] = {}
        self.failing: set[str] = set()

    async def observe(self, now: float) -> Observation:
        seen = {}
        for name, weight in self.plan.weights["shop"].items():
            load = self.demand * weight
            slower = self.slow[name](load) if name in self.slow else 1.0
            mean = CURVES[name].latency(load) * slower
            failed = load if name in self.failing else 0.0
            seen[name] = ClusterObservation(load, load, mean, load * mean, upstream_errors=failed)
        if self.missing:
            seen = {name: one for name, one in seen.items() if name not in self.missing}
        return Observation(now, INTERVAL, seen, {"shop": self.demand}, self.missing)

    async def close(self) -> None: ...


class Stubborn:
    """Wants `plan`, whatever the problem."""

    def __init__(self) -> None:
        self.plan = WANTED

    async def solve(self, problem: Problem, timeout: float) -> Solution:
        objective = Objective(problem)
        wanted = Plan(self.plan.weights, {**problem.incumbent.limits, **self.plan.limits})
        return Solution(
            wanted,
            objective.of_plan(wanted),
            objective.of_plan(problem.incumbent),
            objective.predicted_latency(wanted),
        )


class Mesh:
    def __init__(self, journal: Journal, guard: GuardPolicy, controls: Controls) -> None:
        self.queues, self.solver, self.now = Queues(), Stubborn(), START
        journal.put_originals(NOW, "m")
        resumed = journal.resume("m")

        def push(plan: Plan) -> None:
            self.queues.plan = plan

        self.loop = ControlLoop(
            LoopSettings(TOPOLOGY, ObjectivePolicy(), guard, INTERVAL, 5.0, "classical", "m"),
            plan=resumed.plan or NOW,
            good=resumed.good,
            pushes=journal.pushes(START - 3600.0),
            pending=journal.decision(resumed.pending) if resumed.pending else None,
            controls=Controls.from_dict(resumed.controls) if resumed.controls else controls,
            number=resumed.last_number,
            source=self.queues,
            estimator=CoupledEstimator(TOPOLOGY),
            solver=self.solver,
            journal=journal,
            push=push,
            metrics=Metrics(),
            clock=lambda: self.now,
        )
        self.queues.plan = self.loop.plan
        self.operations = Operations(self.loop, journal, original=NOW)

    async def tick(self, times: int = 1) -> Decision:
        for _ in range(times):
            self.now += INTERVAL
            decision = await self.loop.tick()
        return decision

    @property
    def weight(self) -> float:
        return self.queues.plan.weights["shop"]["a"]


Make = Callable[..., Mesh]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    journals: list[Journal] = []

    def build(guard: GuardPolicy = OPEN, controls: Controls | None = None, name: str = "j") -> Mesh:
        for open_one in journals:
            open_one.close()
        journals[:] = [Journal(tmp_path / name)]
        return Mesh(journals[0], guard, controls or Controls(Mode.AUTO))

    yield build
    for journal in journals:
        journal.close()


def rules(**changes: object) -> GuardPolicy:
    return GuardPolicy(**{**OPEN.__dict__, **changes})


async def test_without_any_of_them_the_plan_is_pushed(make: Make) -> None:
    mesh = make()
    decision = await mesh.tick()
    assert (decision.action, mesh.weight) == (Action.PUSH, 0.8)


async def test_observe_recommends_and_pushes_nothing(make: Make) -> None:
    mesh = make(controls=Controls(Mode.OBSERVE))
    decision = await mesh.tick()
    assert (decision.action, decision.plan.weights) == (Action.RECOMMEND, WANTED.weights)
    assert mesh.weight == 0.5


async def test_approve_waits_for_a_yes_and_the_plan_stays_the_same_meanwhile(make: Make) -> None:
    mesh = make(rules(min_gain=0.01), Controls(Mode.APPROVE))
    mesh.queues.slow["b"] = lambda _: 3.0  # so that there is something to gain
    first = await mesh.tick()
    assert first.action is Action.AWAIT
    later = await mesh.tick(3)
    assert (later.action, later.why) == (Action.HOLD, "decision 1 waits for a yes")
    assert mesh.weight == 0.5
    with pytest.raises(StateError, match="decision 3 does not wait for a yes; decision 1 does"):
        await mesh.operations.approve(3, by="ada")
    decision = await mesh.operations.approve(1, by="ada")
    assert (decision.action, decision.number) == (Action.PUSH, 5)
    assert "approved by ada: decision 1" in decision.why
    assert mesh.weight == 0.8
    with pytest.raises(StateError, match="no plan waits"):
        await mesh.operations.approve(by="ada")


async def test_a_plan_waits_on_over_a_restart(make: Make) -> None:
    mesh = make(controls=Controls(Mode.APPROVE))
    await mesh.tick()
    again = make(controls=Controls(Mode.APPROVE))
    assert again.operations.pending is not None
    await again.operations.approve(1, by="ada")
    assert again.weight == 0.8
    assert make().operations.pending is None


async def test_a_rejected_plan_is_not_proposed_again_at_once(make: Make) -> None:
    mesh = make(controls=Controls(Mode.APPROVE))
    await mesh.tick()
    assert (await mesh.operations.reject(why="not on a Friday", by="ada")).number == 1
    decision = await mesh.tick()
    assert decision.action is Action.HOLD
    assert "rejected by ada: not on a Friday; nothing is proposed for another" in decision.why
    mesh.now += 900.0
    assert (await mesh.tick()).action is Action.AWAIT
    assert mesh.weight == 0.5


async def test_a_route_that_needs_a_yes_waits_while_the_limits_move(make: Make) -> None:
    mesh = make(controls=Controls(Mode.AUTO, routes={"shop": Mode.APPROVE}))
    mesh.solver.plan = Plan(WANTED.weights, {"a": BreakerLimits.around(128)})
    decision = await mesh.tick()
    assert decision.action is Action.PUSH
    assert "the rest waits for a yes" in decision.why
    assert (mesh.weight, mesh.queues.plan.limits["a"].max_requests) == (0.5, 128)
    await mesh.operations.approve(by="ada")
    assert mesh.weight == 0.8


async def test_a_pause_stops_until_somebody_resumes(make: Make) -> None:
    mesh = make()
    await mesh.operations.pause("incident 7", by="ada")
    decision = await mesh.tick()
    assert decision.action is Action.RECOMMEND
    assert decision.why.startswith("paused: incident 7, nothing pushed")
    assert mesh.weight == 0.5
    await mesh.operations.resume(by="ada")
    await mesh.tick()
    assert mesh.weight == 0.8


async def test_a_freeze_stops_until_its_time_is_over(make: Make) -> None:
    mesh = make()
    await mesh.operations.freeze(mesh.now + 12.0, by="ada")
    await mesh.tick(2)
    assert mesh.weight == 0.5
    await mesh.tick()
    assert mesh.weight == 0.8
    with pytest.raises(MeshError, match=r"until: .*: name a time to come"):
        await mesh.operations.freeze(mesh.now, by="ada")


async def test_a_freeze_window_stops_a_plan_and_a_yes(make: Make) -> None:
    began = datetime.fromtimestamp(START, UTC)
    window = FreezeWindow(f"{began.minute} {began.hour} * * *", 60.0)
    mesh = make(rules(freeze=(window,)))
    decision = await mesh.tick()
    assert decision.action is Action.RECOMMEND
    assert "freeze window" in decision.why
    assert mesh.weight == 0.5
    mesh.now += 60.0
    await mesh.tick()
    assert mesh.weight == 0.8


async def test_a_plan_bakes_before_the_next(make: Make) -> None:
    mesh = make(rules(bake=11.0))
    await mesh.tick()
    mesh.solver.plan = plan(0.6)
    assert "the last plan bakes" in (await mesh.tick(2)).why
    assert mesh.weight == 0.8
    await mesh.tick()
    assert mesh.weight == 0.6


async def test_changes_an_hour_are_counted_over_a_restart(make: Make) -> None:
    mesh = make(rules(changes_per_hour=2))
    await mesh.tick()
    mesh.solver.plan = plan(0.6)
    await mesh.tick()
    again = make(rules(changes_per_hour=2))
    again.now = mesh.now
    again.solver.plan = plan(0.7)
    decision = await again.tick()
    assert "2 changes in the last hour" in decision.why
    assert again.weight == 0.6
    again.now += 3600.0
    await again.tick()
    assert again.weight == 0.7


async def test_a_canary_is_held_at_its_ceiling_until_it_is_promoted(make: Make) -> None:
    mesh = make(rules(canaries={("shop", "a"): 0.05}))
    await mesh.tick()
    assert mesh.weight == pytest.approx(0.05), "the operator's own weight was above it, too"
    with pytest.raises(MeshError, match="no such canary; known: shop/a"):
        await mesh.operations.promote("shop", "b", by="ada")
    await mesh.operations.promote("shop", "a", by="ada")
    await mesh.tick()
    assert mesh.weight == 0.8


async def test_a_pin_is_reached_in_steps_and_kept(make: Make) -> None:
    mesh = make(rules(max_step=0.2, min_gain=0.5, deadband=0.1))
    await mesh.operations.pin("shop", {"a": 0.05}, by="ada")
    seen = []
    for _ in range(4):
        await mesh.tick()
        seen.append(mesh.weight)
    assert seen == pytest.approx([0.3, 0.1, 0.05, 0.05])
    await mesh.operations.unpin("shop", by="ada")
    mesh.loop.settings = replace(mesh.loop.settings, guard=OPEN)
    await mesh.tick()
    assert mesh.weight == 0.8
    with pytest.raises(MeshError, match="it is not pinned; pinned: none is"):
        await mesh.operations.unpin("shop", by="ada")


@pytest.mark.parametrize(
    ("route", "weights", "why"),
    [
        ("shop", {"a": 0.7, "b": 0.7}, "lower a pin"),
        ("shop", {"z": 0.7}, "use one of: a, b"),
        ("shop", {"a": math.nan}, "use a fraction from 0 to 1"),
        ("shop", {}, "name a cluster"),
        ("nope", {"a": 0.7}, "use one of: shop"),
    ],
)
async def test_a_pin_that_makes_no_sense_is_refused_and_on_record(
    make: Make, route: str, weights: Mapping[str, float], why: str
) -> None:
    mesh = make()
    with pytest.raises(MeshError, match=why):
        await mesh.operations.pin(route, weights, by="ada")
    assert mesh.operations.controls == Controls(Mode.AUTO)
    assert all(entry.outcome != "ok" for entry in await mesh.operations.audit())


async def test_settings_of_the_guard_are_changed_live_and_given_back(make: Make) -> None:
    mesh = make()
    await mesh.operations.set_policy({"max_step": 0.1}, by="ada")
    await mesh.tick()
    assert mesh.weight == pytest.approx(0.6)
    await mesh.operations.set_policy({"max_step": None}, by="ada")
    await mesh.tick()
    assert mesh.weight == 0.8
    for overrides, why in (({"max_stp": 0.1}, "use one of"), ({"max_step": 2.0}, "use 0.001 to 1")):
        with pytest.raises(MeshError, match=why):
            await mesh.operations.set_policy(overrides, by="ada")


async def test_a_surge_draws_the_weights_toward_the_shares_of_the_capacity(make: Make) -> None:
    weights = []
    for surge in (1e9, 1.5):
        mesh = make(rules(surge=surge), name=f"j{surge}")
        mesh.solver.plan = NOW
        await mesh.tick(5)
        mesh.queues.demand, mesh.solver.plan = 600.0, plan(1.0)
        decision = await mesh.tick()
        weights.append(mesh.weight)
    assert weights[0] == 1.0
    assert weights[1] == pytest.approx(0.5, abs=0.15)
    assert "surge" in [cut.rule for cut in decision.cuts]


VERIFIED = rules(verify=VerifyPolicy(), max_step=0.2)


async def test_a_plan_that_breaks_its_promise_is_rolled_back_in_steps(make: Make) -> None:
    mesh = make(VERIFIED)
    mesh.solver.plan = NOW
    await mesh.tick(6)
    # Where more is sent to it than before, `a` is far slower than anything that was seen of it.
    mesh.queues.slow["a"] = lambda load: 1.0 if load < 110.0 else 4.0
    mesh.solver.plan = WANTED
    seen: list[tuple[Action, float]] = []
    for _ in range(12):
        decision = await mesh.tick()
        seen.append((decision.action, round(mesh.weight, 3)))
        if decision.check and decision.check.verdict is Verdict.WORSE:
            assert decision.why.startswith("rolled back to the last good plan: worse")
    assert (Action.PUSH, 0.8) in seen
    back = [weight for action, weight in seen if action is Action.ROLLBACK]
    assert back == [0.6, 0.5], "not all at once"
    assert seen[-1] == (Action.HOLD, 0.5), "and it is not tried again at once"
    assert mesh.loop.trial.good.weights == NOW.weights


async def test_after_three_rollbacks_nothing_is_tried_until_somebody_resumes(make: Make) -> None:
    mesh = make(VERIFIED)
    mesh.solver.plan = NOW
    await mesh.tick(6)
    mesh.queues.slow["a"] = lambda load: 1.0 if load < 110.0 else 4.0
    mesh.solver.plan = WANTED
    for _ in range(100):
        await mesh.tick()
        if mesh.operations.controls.held:
            break
    assert mesh.operations.controls.held.startswith("3 rollbacks in 3600 s")
    mesh.now += 600.0
    decision = await mesh.tick(3)
    assert mesh.weight == 0.5
    assert "held: 3 rollbacks" in decision.why
    await mesh.operations.resume(by="ada")
    await mesh.tick()
    assert mesh.weight > 0.5


async def test_a_good_plan_is_accepted(make: Make) -> None:
    mesh = make(VERIFIED)
    mesh.solver.plan = NOW
    mesh.queues.slow["b"] = lambda load: 1.0 + load / 50.0
    await mesh.tick(6)
    mesh.solver.plan = WANTED
    verdicts = [d.check.verdict for _ in range(12) if (d := await mesh.tick()).check]
    assert Verdict.ACCEPTED in verdicts
    assert Verdict.WORSE not in verdicts
    assert mesh.weight == 0.8
    assert mesh.loop.trial.good.weights == WANTED.weights


async def test_a_mesh_that_changes_by_itself_is_not_the_plans_fault(make: Make) -> None:
    mesh = make(VERIFIED)
    mesh.solver.plan = NOW
    await mesh.tick(6)
    mesh.solver.plan = WANTED
    await mesh.tick()
    mesh.queues.slow["b"] = lambda _: 20.0  # `b` has less to do than before
    verdicts = [d.check.verdict for _ in range(12) if (d := await mesh.tick()).check]
    assert Verdict.VOID in verdicts
    assert Verdict.WORSE not in verdicts
    assert mesh.weight == 0.8


async def test_going_back_to_a_decision_is_gradual_pauses_and_needs_no_data(make: Make) -> None:
    mesh = make(rules(max_step=0.1))
    mesh.solver.plan = plan(0.6)
    first = await mesh.tick()
    mesh.solver.plan = plan(0.9)
    await mesh.tick(3)
    assert mesh.weight == pytest.approx(0.9)
    with pytest.raises(NotFoundError, match="decision 99 is not in the journal"):
        await mesh.operations.roll_back(99, by="ada")
    await mesh.operations.roll_back(first.number, by="ada")
    mesh.queues.missing = {"a": "gone"}
    seen = []
    for _ in range(4):
        decision = await mesh.tick()
        seen.append(round(mesh.weight, 3))
    assert seen == [0.8, 0.7, 0.6, 0.6]
    mesh.queues.missing = {}
    decision = await mesh.tick()
    assert "paused: rolled back to the plan of decision 1 by ada" in decision.why
    assert mesh.weight == pytest.approx(0.6)


async def test_restoring_goes_on_after_a_restart(make: Make) -> None:
    mesh = make(rules(max_step=0.1))
    await mesh.tick(3)
    await mesh.operations.restore(by="ada")
    await mesh.tick()
    assert mesh.weight == pytest.approx(0.7)
    again = make(rules(max_step=0.1))
    again.now = mesh.now
    await again.tick(3)
    assert again.queues.plan == NOW
    assert again.operations.controls.target is None
    assert "restored by ada" in again.operations.controls.paused


async def test_a_plan_that_was_never_in_force_is_not_gone_back_to(make: Make) -> None:
    mesh = make(controls=Controls(Mode.OBSERVE))
    await mesh.tick()
    with pytest.raises(StateError, match="was never in force"):
        await mesh.operations.roll_back(1, by="ada")


async def test_every_write_has_an_audit_entry(make: Make) -> None:
    mesh = make(controls=Controls(Mode.APPROVE))
    await mesh.tick()
    ask = mesh.operations
    await ask.approve(by="ada")
    await ask.set_mode(Mode.AUTO, by="bob")
    await ask.set_mode(Mode.OBSERVE, route="shop", by="bob")
    await ask.pause("", by="bob")
    await ask.resume(by="bob")
    await ask.freeze(mesh.now + 60.0, by="bob")
    await ask.pin("shop", {"a": 0.5}, by="bob")
    await ask.unpin("shop", by="bob")
    await ask.set_policy({"min_gain": 0.5}, by="bob")
    await ask.restore(by="bob")
    entries = await ask.audit()
    assert [(e.action, e.who) for e in reversed(entries)] == [
        ("Approve", "ada"),
        ("SetMode", "bob"),
        ("SetMode", "bob"),
        ("Pause", "bob"),
        ("Resume", "bob"),
        ("Freeze", "bob"),
        ("Pin", "bob"),
        ("Unpin", "bob"),
        ("SetPolicy", "bob"),
        ("Restore", "bob"),
    ]
    assert entries[1].detail == {"overrides": {"min_gain": 0.5}}
    assert [e.number for e in await ask.audit(2, before=entries[1].number)] == [
        entries[2].number,
        entries[3].number,
    ]


async def test_what_cannot_be_recorded_is_not_done(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = make()

    def full(*_: object) -> None:
        raise JournalWriteError("disk full")

    monkeypatch.setattr(Journal, "put_controls", full)
    with pytest.raises(JournalWriteError):
        await mesh.operations.pause("x", by="ada")
    assert not mesh.operations.controls.paused


async def test_asking_what_would_be_changes_nothing(make: Make) -> None:
    mesh = make(controls=Controls(Mode.OBSERVE))
    with pytest.raises(StateError, match="no decision was made yet"):
        await mesh.operations.propose()
    await mesh.tick(3)
    before = (mesh.loop.latest, mesh.loop.plan, await mesh.operations.audit())
    proposed = await mesh.operations.propose()
    assert proposed.plan.weights == WANTED.weights
    mesh.solver.plan = Plan({"shop": {"a": 1.0}}, {})
    busy = await mesh.operations.what_if({"shop": 300.0}, without=["b"])
    assert busy.demands == {"shop": 300.0}
    assert busy.plan.weights == {"shop": {"a": 1.0}}
    assert busy.clusters["a"].load == 300.0
    small = await mesh.operations.what_if(scale=0.5, without=["b"], capacities={"a": 0.5})
    assert small.demands["shop"] == pytest.approx(100.0, rel=0.05)
    assert small.clusters["a"].capacity == pytest.approx(0.5 * busy.clusters["a"].capacity)
    assert (mesh.loop.latest, mesh.loop.plan, await mesh.operations.audit()) == before
    for wrong, why in (
        ({"without": ["a", "b"]}, "no cluster left"),
        ({"without": ["z"]}, "use one of: a, b"),
        ({"demands": {"shop": -1.0}}, "requests/s of 0 or more"),
        ({"capacities": {"a": 0.0}}, "a factor above 0"),
        ({"scale": math.inf}, "scale"),
    ):
        with pytest.raises(MeshError, match=why):
            await mesh.operations.what_if(**wrong)


async def test_a_cluster_that_was_found_to_change_ends_the_trial_at_once(make: Make) -> None:
    mesh = make(VERIFIED)
    mesh.solver.plan = NOW
    await mesh.tick(6)
    mesh.solver.plan = WANTED
    await mesh.tick()
    mesh.queues.slow["b"] = lambda _: 1.5
    verdicts = [d.check.verdict for _ in range(12) if (d := await mesh.tick()).check]
    assert verdicts[-1] is Verdict.ACCEPTED, "of a good plan's own windows"
    assert Verdict.WORSE not in verdicts
    assert mesh.weight == 0.8


async def test_a_cluster_that_fails_is_left_at_once_whatever_became_of_the_last_plan(
    make: Make,
) -> None:
    mesh = make(rules(max_step=0.1))
    mesh.solver.plan = NOW
    await mesh.tick(3)
    mesh.loop.decider.refuse("the test said so")
    mesh.solver.plan = plan(0.1)
    assert (await mesh.tick()).action is Action.HOLD
    mesh.queues.failing = {"a"}
    decision = await mesh.tick()
    assert decision.action is Action.PUSH
    assert mesh.weight == pytest.approx(0.1)
    assert mesh.loop.relies_on(["a"])
    assert not mesh.loop.relies_on(["z"])
