"""The task that looks between two decisions: what it serves, in which mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eigenmesh.control.fast import FastLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.operations import Operations
from eigenmesh.control.settings import parse_document
from eigenmesh.control.sidecar import make_fast_source
from eigenmesh.demo import stage
from eigenmesh.guard import FastGuard
from eigenmesh.guard.controls import Mode
from eigenmesh.mesh import (
    BreakerLimits,
    ClusterObservation,
    CurveEstimate,
    FastPolicy,
    LatencyCurve,
    Observation,
    Plan,
)

from .loops import smallest_loop

HALVED = Observation(
    0.0, 1.0, {"a": ClusterObservation(300.0, 200.0, 0.15, 38.0)}, {"r": 300.0}, {}
)


async def test_what_was_lowered_is_given_back_when_auto_ends(tmp_path: Path) -> None:
    unused: Any = None
    loop, journal = smallest_loop(tmp_path, unused, unused)
    loop.plan = Plan(loop.plan.weights, {"a": BreakerLimits.around(40)})
    loop.curves = {"a": CurveEstimate(LatencyCurve(0.02, 400.0), 0.05, 0.05, 100)}
    calmed: list[str] = []

    def calm(observation: Observation) -> None:
        calmed.append(loop.mode)

    loop.calm = calm  # type: ignore[method-assign]
    guard = FastGuard(FastPolicy())
    served: list[int] = []

    def serve() -> None:
        served.append(guard.over(loop.plan).limits["a"].max_requests)

    fast = FastLoop(guard, loop, unused, interval=1.0, serve=serve, metrics=Metrics())
    try:
        fast.look(HALVED)
        fast.look(HALVED)
        assert served == [20]
        await Operations(loop, journal, original=loop.plan).set_mode(Mode.OBSERVE, by="test")
        fast.look(HALVED)
        fast.look(HALVED)
        assert served == [20, 40]
        assert calmed == ["auto", "auto", "observe", "observe"], "storms are shown in both"
    finally:
        journal.close()


def test_it_is_off_without_an_admin_address(tmp_path: Path) -> None:
    document = stage.settings(stage.Ports(), tmp_path / "journal.sqlite")
    document["interval"] = "5s"
    assert make_fast_source(parse_document(document)) is not None
    for telemetry, fast, on in (
        ({"prometheus": {"url": "http://127.0.0.1:9090"}}, {}, False),
        (
            {"prometheus": {"url": "http://127.0.0.1:9090"}},
            {"admin": ["http://127.0.0.1:9901"]},
            True,
        ),
        (document["telemetry"], {"enabled": False}, False),
        (document["telemetry"], {"interval": "5s"}, False),
    ):
        changed = document | {"telemetry": telemetry, "guard": {"fast": fast}}
        assert (make_fast_source(parse_document(changed)) is not None) is on
