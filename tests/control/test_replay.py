"""Past decisions made anew: the same settings give the same plans, others are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eigenmesh.control.journal import Journal
from eigenmesh.control.proposal import LoopSettings
from eigenmesh.control.replay import replay
from eigenmesh.guard.controls import Mode
from eigenmesh.mesh import Action, Cluster, FreezeWindow, MeshError, Plan, Route, Topology

from .meshes import TOPOLOGY, Simulation
from .test_journal import decision

TICKS = 60
"""Two minutes; demand has a period of one."""


async def recorded(
    folder: Path, mode: Mode = Mode.AUTO, ticks: int = TICKS
) -> tuple[Journal, LoopSettings]:
    journal = Journal(folder / "journal.sqlite")
    simulation = Simulation(journal, mode=mode)
    for _ in range(ticks):
        await simulation.tick()
    return journal, simulation.loop.settings


async def test_the_same_settings_decide_the_same(tmp_path: Path) -> None:
    journal, settings = await recorded(tmp_path)
    found = replay(journal, settings, 1000)
    assert [turn.number for turn in found.turns] == list(range(1, TICKS + 1))
    for turn in found.turns:
        assert turn.would.action is turn.done.action
        assert turn.would.plan == turn.done.plan
        assert turn.would.latency == turn.done.latency
        made = journal.decision(turn.number)
        assert made is not None
        assert turn.would.why == made.why
    assert replace(found.done, seconds=None) == replace(found.would, seconds=None)
    assert found.done.pushes >= 5
    assert found.done.latency is not None
    assert found.done.latency < found.turns[0].done.latency  # type: ignore[operator]
    assert found.would.won["weights"]["newton"] >= found.done.pushes
    assert found.would.seconds is not None


async def test_a_part_of_it_goes_on_from_the_plan_in_force(tmp_path: Path) -> None:
    journal, settings = await recorded(tmp_path, ticks=8)
    steps = replay(journal, settings, 1000).turns
    later = replay(journal, settings, 4)
    assert [turn.number for turn in later.turns] == [5, 6, 7, 8]
    # The forecast begins anew, so plans differ a little; where they begin does not.
    assert later.turns[0].done.largest == steps[4].done.largest
    assert later.turns[0].would.plan.distance(steps[3].done.plan) <= 0.1 + 1e-9


async def test_larger_steps_arrive_sooner(tmp_path: Path) -> None:
    journal, settings = await recorded(tmp_path)
    guard = replace(settings.guard, max_step=0.4)
    found = replay(journal, replace(settings, guard=guard), 1000)
    assert found.would.largest > 0.2 > found.done.largest
    assert found.would.latency < found.done.latency  # type: ignore[operator]
    assert found.would.pushes < found.done.pushes


async def test_a_guard_that_lets_nothing_pass_stays_where_it_began(tmp_path: Path) -> None:
    start = Plan.equal(TOPOLOGY).weights
    journal, settings = await recorded(tmp_path)
    for guard, pushes in (
        # Limits that protect nobody come down all the same.
        (replace(settings.guard, min_gain=0.9), 4),
        (replace(settings.guard, freeze=(FreezeWindow("* * * * *", 3600.0),)), 0),
    ):
        found = replay(journal, replace(settings, guard=guard), 1000)
        assert found.would.pushes <= pushes
        assert found.would.moved == 0.0
        assert all(turn.would.plan.weights == start for turn in found.turns)
        assert found.would.latency > found.done.latency  # type: ignore[operator]


async def test_what_the_guard_bounds_is_bounded(tmp_path: Path) -> None:
    journal, settings = await recorded(tmp_path, ticks=20)
    guard = replace(settings.guard, canaries={("shop", "a"): 0.4}, max_step=0.3)
    found = replay(journal, replace(settings, guard=guard), 1000)
    assert max(turn.done.plan.weights["shop"]["a"] for turn in found.turns) > 0.6
    assert max(turn.would.plan.weights["shop"]["a"] for turn in found.turns) <= 0.4 + 1e-9


async def test_what_was_only_recommended_was_not_in_force(tmp_path: Path) -> None:
    journal, settings = await recorded(tmp_path, Mode.OBSERVE, ticks=20)
    found = replay(journal, settings, 10)
    assert {turn.done.action for turn in found.turns} == {Action.RECOMMEND}
    assert all(turn.done.plan == Plan.equal(TOPOLOGY) for turn in found.turns)
    assert found.done.pushes == 0
    assert found.would.pushes >= 5
    assert found.would.latency < found.done.latency  # type: ignore[operator]


async def test_what_cannot_be_made_anew_is_counted(tmp_path: Path) -> None:
    journal, settings = await recorded(tmp_path, ticks=5)
    forgotten = decision(6)
    journal.record(replace(forgotten, plan=Plan.equal(TOPOLOGY)))
    found = replay(journal, settings, 1000)
    assert found.skipped == {"its observation is not kept": 1}
    assert len(found.turns) == 5
    other = Topology((Cluster("a"), Cluster("b")), (Route("shop", ("a", "b")),))
    found = replay(journal, replace(settings, topology=other), 1000)
    assert found.skipped == {"its observation is not kept": 1, "it is of other routes": 5}
    assert found.would.latency is None
    assert found.turns == []


def test_a_journal_without_decisions(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    topology = Topology((Cluster("a"),), (Route("r", ("a",)),))
    with pytest.raises(MeshError, match="it has no decisions"):
        replay(journal, LoopSettings(topology, *[None] * 6), 10)  # type: ignore[arg-type]
