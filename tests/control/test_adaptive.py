"""Clusters whose concurrency Envoy adapts itself: nothing here moves their limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eigenmesh.control.fast import FastLoop
from eigenmesh.control.groups import GroupSettings, resolve
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.proposal import movable, with_default_limits
from eigenmesh.control.sidecar import mesh_hash
from eigenmesh.guard import FastGuard, admit
from eigenmesh.mesh import (
    BreakerLimits,
    Cluster,
    ClusterObservation,
    CurveEstimate,
    FastPolicy,
    GuardPolicy,
    LatencyCurve,
    Observation,
    Plan,
    Route,
    Topology,
)
from eigenmesh.xds.operator import parse_operator
from tests.xds.test_limiters import ADAPTIVE, document

from .loops import smallest_loop

WEIGHTS = {"r": {"a": 0.5, "b": 0.5}}


def mesh(*, adaptive: bool) -> Topology:
    return Topology((Cluster("a", adaptive=adaptive), Cluster("b")), (Route("r", ("a", "b")),))


def test_the_guard_bounds_and_moves_the_others_only() -> None:
    topology = mesh(adaptive=True)
    own = BreakerLimits(4096, 4096, 4096, 3)  # above the guard's range
    incumbent = with_default_limits(Plan(WEIGHTS, {"a": own}), topology)
    proposed = Plan(WEIGHTS, {c: BreakerLimits.around(600) for c in "ab"})
    wanted = movable(proposed, topology)
    guarded = admit(
        topology, incumbent, wanted, GuardPolicy(), lambda plan: 1.0 if plan == incumbent else 0.5
    )
    assert guarded.moves
    assert guarded.plan.limits == {"a": own, "b": BreakerLimits.around(600)}


def test_a_plan_from_before_the_filter_is_not_resumed() -> None:
    assert mesh_hash(mesh(adaptive=True)) != mesh_hash(mesh(adaptive=False))


def test_a_filter_in_one_group_holds_the_cluster_in_all() -> None:
    plain, held = parse_operator(document()), document(ADAPTIVE)
    group: Any = {"name": "edge", "match": {"id": "edge-*"}, "envoy": held}
    groups = resolve(
        [GroupSettings.model_validate(group)],
        default=plain,
        refuse_unknown=False,
        parse=lambda given, steer, source, prefix: parse_operator(
            given, steer=steer, source=source, prefix=prefix
        ),
    )
    assert groups.topology().adaptive == {"a", "b"}
    assert groups.topology().cluster_names == tuple("abcd")


async def test_the_fast_guard_lowers_the_others_only(tmp_path: Path) -> None:
    unused: Any = None
    loop, journal = smallest_loop(tmp_path, unused, unused)
    estimate = CurveEstimate(LatencyCurve(0.02, 400.0), 0.05, 0.05, 100)
    loop.curves = {"a": estimate, "b": estimate}
    loop.plan = Plan(WEIGHTS, {c: BreakerLimits.around(40) for c in "ab"})
    halved = ClusterObservation(300.0, 200.0, 0.15, 38.0)
    seen = Observation(0.0, 1.0, {"a": halved, "b": halved}, {"r": 600.0}, {})
    guard = FastGuard(FastPolicy())
    fast = FastLoop(
        guard,
        loop,
        unused,
        interval=1.0,
        still={"a"},
        serve=lambda: None,
        metrics=Metrics(),
    )
    try:
        fast.look(seen)
        fast.look(seen)
        assert set(guard.limits) == {"b"}
    finally:
        journal.close()
