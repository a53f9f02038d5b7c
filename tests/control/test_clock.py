"""The wall clock is set under a running loop: nothing storms, nothing is stuck."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.control.approval import REJECTED, Approvals
from eigenmesh.control.clock import JUMP, Clock
from eigenmesh.control.journal import Journal
from eigenmesh.guard import FastGuard, Prober, Storm, calendar
from eigenmesh.mesh import (
    Action,
    Cause,
    ClusterObservation,
    CurveEstimate,
    FastPolicy,
    GuardPolicy,
    LatencyCurve,
    Observation,
    Plan,
    ProbePolicy,
    StormPolicy,
    VerifyPolicy,
)
from eigenmesh.mesh.plan import BreakerLimits

from .meshes import TOPOLOGY, Simulation

HOUR = 3600.0
EAGER = GuardPolicy(min_gain=0.0, deadband=0.0, verify=VerifyPolicy(enabled=False))


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(-1e6, 1e6)), max_size=20))
def test_a_clock_tells_every_jump_and_no_slew(steps: list[tuple[float, float]]) -> None:
    wall = steady = 1e9
    told: list[float] = []
    clock = Clock(lambda: wall, lambda: steady)
    clock.on_jump(told.append)
    expected = []
    for elapsed, set_by in steps:
        steady += elapsed
        wall += elapsed + set_by
        if abs(abs(set_by) - JUMP) < 1e-3:
            return  # too near to say
        expected += [set_by] if abs(set_by) > JUMP else []
        assert clock() == wall
    assert told == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_the_limits_of_an_hour_hold_whatever_the_clock_says(
    tmp_path: Path, jump: float
) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    guard = replace(EAGER, bake=20.0, changes_per_hour=12)
    mesh = Simulation(journal, guard)
    for _ in range(15):
        await mesh.tick()
    assert len(mesh.pushed) >= 1
    mesh.now += jump
    for _ in range(300):
        await mesh.tick()
    times = [at for at, _ in mesh.pushed]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= guard.bake, "a storm of pushes"
    assert len(times) == guard.changes_per_hour, "stuck, or more than the hour allows"
    journal.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_hold_after_a_refusal_lasts_as_long_as_it_should(
    tmp_path: Path, jump: float
) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    mesh = Simulation(journal, EAGER)
    while (await mesh.tick()).action is not Action.PUSH:
        pass
    await mesh.loop.take_back("route edge: no")
    mesh.now += jump
    held = 0
    while "Envoy refused it" in (await mesh.tick()).why:
        held += 1
    assert held * mesh.interval == pytest.approx(mesh.loop.settings.refusal_pause, abs=4.0)
    journal.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_plan_on_trial_gets_its_verdict(tmp_path: Path, jump: float) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    mesh = Simulation(journal)
    while (await mesh.tick()).action is not Action.PUSH:
        pass
    mesh.now += jump
    checks = [(await mesh.tick()).check for _ in range(10)]
    assert sum(check is not None for check in checks) >= 8
    journal.close()


JUMPS = pytest.mark.parametrize("jump", [0.0, HOUR, -HOUR])
PLAN = Plan({"shop": {"a": 0.5, "b": 0.3, "c": 0.2}}, {"a": BreakerLimits.around(100)})
CURVE = CurveEstimate(LatencyCurve(0.01, 100.0), t0_error=0.1, capacity_error=0.9, windows=9)


def seen(time: float, **cluster: Any) -> Observation:
    """A window of a second in which cluster a was so."""
    return Observation(time, 1.0, {"a": ClusterObservation(**cluster)}, {"shop": 1.0})


@JUMPS
def test_a_storm_quiets_down_as_slowly_as_ever(jump: float) -> None:
    storm, calm = Storm(StormPolicy()), 0
    stormy = {"load": 200.0, "throughput": 100.0, "mean": 1.0, "in_flight": 100.0}
    errors = {Cause.TIMEOUT: 90.0}
    storm.update(seen(0.0, **stormy, retries=100.0, upstream_errors=90.0, errors=errors))
    storm.shift(jump)
    while storm.dampings and calm < 200:
        calm += 1
        storm.update(seen(jump + calm, load=1.0, throughput=1.0, mean=0.01, in_flight=0.0))
    assert calm == 15, "three steps back of five quiet seconds each"


@JUMPS
def test_a_probe_takes_its_time(jump: float) -> None:
    prober, seconds = Prober(TOPOLOGY, GuardPolicy(probe=ProbePolicy(rise=0.2))), 0
    probe = prober.begin(PLAN, dict.fromkeys("abc", CURVE), lambda _: 1.0, 0.0)
    assert probe is not None
    prober.shift(jump)
    while prober.end(probe.plan, lambda _: 1.0, jump + seconds) is None and seconds < 200:
        seconds += 1
    assert seconds == ProbePolicy.seconds


@JUMPS
def test_a_fast_cut_lasts_while_nothing_is_heard(jump: float) -> None:
    fast, silent = FastGuard(FastPolicy(), max_age=15.0), 0
    for second in (-3.0, -2.0, -1.0, 0.0):
        full = {"load": 80.0, "throughput": 40.0, "mean": 1.0, "in_flight": 100.0}
        fast.update(seen(second, **full), {"a": CURVE}, PLAN)
    cut = fast.limits["a"]
    fast.shift(jump)
    while fast.limits.get("a") == cut and silent < 200:
        silent += 1
        fast.update(Observation(jump + silent, 1.0, {}, {}), {}, PLAN)
    assert silent == 16


@JUMPS
def test_a_no_holds_for_its_time(jump: float) -> None:
    approvals = Approvals()
    approvals.reject("no", 0.0)
    approvals.shift(jump)
    assert approvals.quiet(jump + REJECTED - 1.0) is not None
    assert approvals.quiet(jump + REJECTED + 1.0) is None


def test_pushes_of_a_clock_that_was_set_back_before_a_restart_stop_nothing() -> None:
    policy = GuardPolicy(bake=60.0, changes_per_hour=2)
    assert calendar.stops(policy, [5000.0, 5100.0], now=1000.0) is None
    assert calendar.stops(policy, [950.0, 5100.0], now=1000.0) is not None
