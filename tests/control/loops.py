"""The smallest control loop: one route, one cluster, what it reads and asks is the test's."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from eigenmesh.control.journal import Journal
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.proposal import LoopSettings, Solver
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import Cluster, GuardPolicy, ObjectivePolicy, Plan, Route, Topology
from eigenmesh.telemetry.coupled import CoupledEstimator
from eigenmesh.telemetry.source import Source


def smallest_loop(
    folder: Path, source: Source, solver: Solver, clock: Callable[[], float] = time.time
) -> tuple[ControlLoop, Journal]:
    """Route r over cluster a; the journal is the caller's to close."""
    topology = Topology((Cluster("a"),), (Route("r", ("a",)),))
    journal = Journal(folder / "journal.sqlite")
    loop = ControlLoop(
        LoopSettings(topology, ObjectivePolicy(), GuardPolicy(), 2.0, 5.0, "classical", "m"),
        plan=Plan({"r": {"a": 1.0}}, {}),
        controls=Controls(Mode.AUTO),
        number=0,
        source=source,
        estimator=CoupledEstimator(topology),
        solver=solver,
        journal=journal,
        push=lambda plan: None,
        metrics=Metrics(),
        clock=clock,
    )
    return loop, journal
