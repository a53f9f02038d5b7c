"""A decision on part of the data says which part is missing."""

from __future__ import annotations

from pathlib import Path

from eigenmesh.control.journal import Journal
from eigenmesh.control.loop import ControlLoop, LoopSettings
from eigenmesh.control.metrics import Metrics
from eigenmesh.mesh import (
    Cluster,
    ClusterObservation,
    GuardPolicy,
    ObjectivePolicy,
    Observation,
    Plan,
    Route,
    Topology,
)
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.optimize.worker import SolverError
from eigenmesh.telemetry.coupled import CoupledEstimator


class OneProxyOfTwo:
    async def observe(self, now: float) -> Observation:
        seen = ClusterObservation(load=50.0, throughput=50.0, mean=0.02, in_flight=1.0)
        gone = {"10.0.0.2:9901": "newest sample is 20 s old"}
        return Observation(now, 2.0, {"a": seen}, {"r": 50.0}, left_out=gone)

    async def close(self) -> None: ...


class NoSolver:
    async def solve(self, problem: Problem, timeout: float) -> Solution:
        raise SolverError("solver", "none", "this test has none")


async def test_the_reason_names_the_proxies_that_are_left_out(tmp_path: Path) -> None:
    topology = Topology((Cluster("a"),), (Route("r", ("a",)),))
    journal = Journal(tmp_path / "journal.sqlite")
    loop = ControlLoop(
        LoopSettings(topology, ObjectivePolicy(), GuardPolicy(), 2.0, 5.0, "classical", "m"),
        plan=Plan({"r": {"a": 1.0}}, {}),
        mode="auto",
        number=0,
        source=OneProxyOfTwo(),
        estimator=CoupledEstimator(topology),
        solver=NoSolver(),
        journal=journal,
        push=lambda plan: None,
        metrics=Metrics(),
    )
    await loop.tick()
    assert loop.latest is not None
    assert loop.latest.why.endswith("; without 10.0.0.2:9901")
    kept = journal.decision(1)
    assert kept is not None
    assert kept.why == loop.latest.why
    journal.close()
