"""Fixtures of the demo's tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eigenmesh.demo import phases, stage
from eigenmesh.demo.loadgen import Record, Table
from eigenmesh.demo.messages import TIE
from eigenmesh.demo.outcome import RECOVERED, Outcome
from eigenmesh.demo.results import Check, summarise, timeline
from eigenmesh.demo.scene import Sample, Scene
from eigenmesh.v1 import mesh_pb2 as pb


def records(phase: str, mean: float, seconds: float, start: float = 0.0) -> list[Record]:
    """Exponential latencies at 100 requests/s."""
    rng = np.random.default_rng(len(phase))
    return [
        Record(phase, stage.ROUTES[i % 2], start + t, t, float(rng.exponential(mean)), 200, False)
        for i, t in enumerate(np.arange(0.0, seconds, 0.01))
    ]


def decision(number: int, share: float, at: float) -> pb.Decision:
    d = pb.Decision(
        number=number,
        action=pb.Decision.ACTION_PUSH if number % 2 else pb.Decision.ACTION_HOLD,
        why="predicted gain 7.1% <b>not markup</b>",
        predicted=0.0281,
        incumbent_predicted=0.0302,
        candidates=[
            pb.Candidate(part="weights", solver="born-machine", objective=0.0281, won=True),
            pb.Candidate(part="weights", solver="slsqp", objective=0.02811),
            pb.Candidate(part="limits", solver="qaoa", objective=0.0290),
            pb.Candidate(part="limits", solver="exhaustive", objective=0.0281, won=True),
        ],
        clusters=[
            pb.ClusterState(
                cluster=u.name, load=100, mean_seconds=0.02, p99_seconds=0.1, in_flight=3
            )
            for u in stage.UPSTREAMS
        ],
    )
    d.time.FromNanoseconds(int(at * 1e9))
    for route in stage.ROUTES:
        weights = {"a": share, "b": 0.8 - share, "c": 0.2}
        d.plan.routes.append(pb.RouteWeights(route=route, weights=weights))
    return d


def fabricate(folder: Path, *, ok: bool = True) -> Outcome:
    """A finished run that never ran, for tests of what is shown of one."""
    means = {phases.INCUMBENT: 1.0, phases.LEAST_REQUEST: 0.036, phases.DEGRADED: 0.06}
    scene = Scene(total=phases.total_seconds(phases.FAST))
    now = scene.started = 1_700_000_000.0
    all_records: list[Record] = []
    tables, stats, number = {}, {}, 0
    for phase in phases.script(phases.FAST):
        scene.enter(phase)
        scene.phase_began = now
        rows = records(phase.name, means.get(phase.name, 0.027), phase.seconds, now)
        all_records += rows
        tables[phase.name] = Table.of(rows)
        stats[phase.name] = summarise(tables[phase.name], phase.seconds, stage.SLO)
        steered = phase.name in phases.STEERED_PHASES
        for t in np.arange(now, now + phase.seconds, 0.5):
            share = min(0.6, 0.3 + 0.02 * number)
            split = {"a": share, "b": 0.8 - share, "c": 0.2}
            limits = {"a": 1024 >> min(number, 4), "b": 1024 >> min(number, 5), "c": 24}
            weights = dict.fromkeys(stage.ROUTES, split)
            scene.samples.append(Sample(float(t), weights, limits, split, {"a": 5, "b": 4, "c": 2}))
            if steered:
                number += 1
                scene.decided(decision(number, share, float(t)))
        for record in rows[-200:]:
            scene.take(record)
        now += phase.seconds
        scene.leave()
        scene.spans[-1] = type(scene.spans[-1])(
            phase.name, now - phase.seconds, now, phase.host != stage.STEERED
        )
        if phase.name == phases.INCUMBENT:
            scene.note("eigenmesh", "Eigenmesh takes over")
            scene.events[-1] = type(scene.events[-1])(now, "eigenmesh", "Eigenmesh takes over")
    stats[RECOVERED] = stats[phases.DEGRADED]
    return Outcome(
        folder=folder,
        stats=stats,
        recovery=7.5,
        recovery_target=0.047,
        checks=(Check(ok, "better than equal weights"), Check(True, "Eigenmesh pushed 9 plans")),
        wins={"weights": {TIE: 9, "slsqp": 12}, "limits": {"exhaustive": 21}},
        scene=scene,
        tables=tables,
        began={p.name: time.time() for p in phases.script(phases.FAST)},
        timeline=timeline(all_records),
        prometheus=False,
    )


@pytest.fixture
def make_outcome(tmp_path: Path) -> Callable[[bool], Outcome]:
    """Makes a finished run in `tmp_path`; the argument says whether its first check held."""
    return lambda ok: fabricate(tmp_path, ok=ok)
