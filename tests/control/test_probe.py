"""The loop probes a capacity that is not known, says so, and takes the probe back."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenmesh.control.journal import Journal
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.proposal import LoopSettings
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import (
    Action,
    Cluster,
    ClusterObservation,
    Decision,
    GuardPolicy,
    ObjectivePolicy,
    Observation,
    Plan,
    ProbePolicy,
    Route,
    Topology,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.telemetry.coupled import CoupledEstimator

TOPOLOGY = Topology((Cluster("a"), Cluster("b")), (Route("r", ("a", "b")),))
PLAN = Plan({"r": {"a": 0.6, "b": 0.4}}, {})
PROBE = ProbePolicy(rise=0.2, seconds=6.0, share=0.25, max_cost=1.0)
QUIET = range(16, 20)
"""Seconds at which there is no data of b."""


class Steady:
    """Load so far below the knee that it tells nothing of the capacity."""

    plan = PLAN

    async def observe(self, now: float) -> Observation:
        loads = {name: 50.0 * w for name, w in self.plan.weights["r"].items()}
        seen = {
            n: ClusterObservation(load=x, throughput=x, mean=0.02, in_flight=0.02 * x)
            for n, x in loads.items()
        }
        if now in QUIET:
            return Observation(now, 2.0, {"a": seen["a"]}, {"r": 50.0}, {"b": "no series"})
        return Observation(now, 2.0, seen, {"r": 50.0})

    async def close(self) -> None: ...


class Content:
    """A solver that would change nothing."""

    async def solve(self, problem: Problem, timeout: float) -> Solution:
        value = Objective(problem).of_plan(problem.incumbent)
        return Solution(problem.incumbent, value, value, 0.02, ())


async def run(
    folder: Path, ticks: int, mode: str = "auto", probe: ProbePolicy = PROBE
) -> list[Decision]:
    """A decision every two seconds, from second 2 on."""
    source, journal, now = Steady(), Journal(folder / "journal.sqlite"), 0.0

    def push(plan: Plan) -> None:
        source.plan = plan

    loop = ControlLoop(
        LoopSettings(
            TOPOLOGY, ObjectivePolicy(), GuardPolicy(probe=probe), 2.0, 5.0, "classical", "m"
        ),
        plan=PLAN,
        controls=Controls(Mode(mode)),
        number=0,
        source=source,
        estimator=CoupledEstimator(TOPOLOGY),
        solver=Content(),
        journal=journal,
        push=push,
        metrics=Metrics(),
        clock=lambda: now,
    )
    decisions = []
    for _ in range(ticks):
        now += 2.0
        decisions.append(await loop.tick())
    journal.close()
    return decisions


async def test_an_unknown_capacity_is_probed_and_the_probe_taken_back(tmp_path: Path) -> None:
    decisions = await run(tmp_path, 4)
    first, *during, last = decisions
    assert first.action is Action.PUSH
    assert first.why.startswith("probe: the capacity of ")
    assert "predicted loss" in first.why
    assert first.plan != PLAN
    assert all(d.action is Action.HOLD and "probing" in d.why for d in during)
    assert last.action is Action.PUSH
    assert last.plan == PLAN
    assert "is over" in last.why


async def test_a_hole_in_the_data_neither_begins_nor_ends_a_probe(tmp_path: Path) -> None:
    first = (await run(tmp_path, 1))[0]
    long = ProbePolicy(rise=0.2, seconds=14.0, share=0.25, max_cost=1.0)
    (tmp_path / "journal.sqlite").unlink()
    decisions = await run(tmp_path, 10, probe=long)
    hole = [d for d in decisions if d.time in QUIET]
    assert len(hole) == 2, "the probe would be over at second 16"
    assert all(d.action is Action.HOLD and d.plan == first.plan for d in hole)
    after = next(d for d in decisions if d.time == QUIET.stop)
    assert after.action is Action.PUSH
    assert after.plan == PLAN


@pytest.mark.parametrize(("mode", "probe"), [("observe", PROBE), ("auto", ProbePolicy())])
async def test_none_when_frozen_and_none_by_default(
    tmp_path: Path, mode: str, probe: ProbePolicy
) -> None:
    decisions = await run(tmp_path, 6, mode, probe)
    assert all(d.action is Action.HOLD and d.plan == PLAN for d in decisions)
