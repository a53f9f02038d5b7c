"""No hole in the data moves a weight: `eigenmesh run` in auto mode, through one after the other."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from eigenmesh.v1 import mesh_pb2 as pb

from .conftest import Stack
from .test_sidecar import LIGHT, decisions, envoy_weights

MAX_AGE = 4.0
"""Seconds; the default is 15. Every hole lasts longer than this."""

SETTINGS = {
    "mode": "auto",
    "interval": "1s",
    "guard": {"max_step": 0.2, "max_age": f"{MAX_AGE}s"},
}


def weights(decision: pb.Decision) -> dict[str, dict[str, float]]:
    return {r.route: dict(r.weights) for r in decision.plan.routes}


@pytest.mark.parametrize("stack", [{"settings": SETTINGS, "prometheus": True}], indirect=True)
async def test_no_hole_in_the_data_moves_a_weight(stack: Stack) -> None:
    store = stack.prometheus
    assert store is not None
    await stack.load.begin("run", LIGHT, seed=4)
    await decisions(stack, 1, pb.Decision.ACTION_PUSH, 60)
    made: list[pb.Decision] = []

    async def watch() -> None:
        async with stack.client() as client:
            async for decision in client.watch_decisions():
                made.append(decision)

    async def until(wanted: Callable[[pb.Decision], bool], since: int | None = None) -> None:
        """Until one of the decisions made from now on (or from `since` on) is as wanted."""
        first = len(made) if since is None else since
        deadline = time.monotonic() + 40.0
        while not any(wanted(d) for d in made[first:]):
            assert time.monotonic() < deadline, [d.why for d in made[first:]]
            assert not watcher.done()
            await asyncio.sleep(0.1)

    async def nothing_moves() -> None:
        before = envoy_weights(stack)
        await asyncio.sleep(MAX_AGE + 1.0)
        assert envoy_weights(stack) == before

    watcher = asyncio.create_task(watch())
    try:
        os.kill(store.pid, signal.SIGSTOP)
        await until(lambda d: "no answer within" in d.why)
        await nothing_moves()
        os.kill(store.pid, signal.SIGCONT)
        await until(lambda d: not d.missing)

        store.kill()
        await until(lambda d: "cannot be read" in d.why)
        await nothing_moves()
        shutil.rmtree(store.scratch / "data")
        store.start()
        await until(lambda d: "newest sample is" in d.why)
        await until(lambda d: not d.missing)

        since, in_force = len(made), envoy_weights(stack)
        stack.envoy.kill()
        stack.envoy.start()
        await stack.envoy.ready()
        assert envoy_weights(stack) == in_force, "a new Envoy begins with the plan in force"
        await until(lambda d: bool(d.missing), since)
        await until(lambda d: not d.missing)
    finally:
        watcher.cancel()
    holes = 0
    for before, now in pairwise(made):
        if now.missing:
            holes += 1
            assert now.action == pb.Decision.ACTION_HOLD
            assert weights(now) == weights(before), now.why
    assert holes >= 2 * MAX_AGE
    await stack.load.begin("quiet", {}, seed=1)
    await stack.load.close()
