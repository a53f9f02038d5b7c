"""The settings file changed under a running `eigenmesh run`, beside a real Envoy under load."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from eigenmesh.demo import stage
from eigenmesh.v1 import mesh_pb2 as pb

from .conftest import Stack
from .test_sidecar import FAST, LIGHT, decisions, envoy_limit, envoy_weights, metric

TOUCHED = r"cluster_manager\.cluster_(modified|removed)|listener_manager\.listener_(added|modified)"


def write(stack: Stack, settings: dict[str, Any]) -> None:
    """In one move, as an editor saves it."""
    new = stack.file.with_suffix(".new")
    new.write_text(yaml.safe_dump(settings))
    os.replace(new, stack.file)


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)


def reloads(stack: Stack, outcome: str) -> float:
    """How many of these there were."""
    name = f'eigenmesh_settings_reloads_total{{outcome="{outcome}"}}'
    return metric(stack.metrics(), name) if name in stack.metrics() else 0.0


def with_a_new_route(settings: dict[str, Any]) -> dict[str, Any]:
    """A fourth cluster, and a route over it and over one that is there; c is allowed less."""
    other = copy.deepcopy(settings)
    static = other["envoy"]["static_resources"]
    static["clusters"].append({**static["clusters"][0], "name": "d"})
    manager = static["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    own = manager["route_config"]["virtual_hosts"][0]["routes"]
    split = [{"name": "d", "weight": 60}, {"name": "b", "weight": 40}]
    own.insert(
        0,
        {
            "name": "new",
            "match": {"prefix": "/new"},
            "route": {"weighted_clusters": {"clusters": split}},
        },
    )
    other["steer"] = [*stage.ROUTES, "new"]
    return other


@pytest.mark.parametrize("stack", [{"settings": FAST | {"mode": "auto"}}], indirect=True)
async def test_settings_change_under_load_and_no_request_fails(stack: Stack) -> None:
    await stack.load.begin("run", LIGHT, seed=5)
    await decisions(stack, 1, pb.Decision.ACTION_PUSH, 60)
    untouched = stack.envoy.stats(TOUCHED)

    # A guard that lets nothing through.
    strict = copy.deepcopy(stack.settings)
    strict["guard"] |= {"min_gain": 0.9}
    write(stack, strict)
    await until(lambda: reloads(stack, "applied") == 1, "the strict guard is not applied")
    held = await decisions(stack, 3, pb.Decision.ACTION_HOLD, 20)
    assert "is below min_gain 90.0%" in held[-1].why
    before = envoy_weights(stack)

    # What `check` refuses is refused in its words.
    bad = copy.deepcopy(strict)
    bad["guard"]["max_steps"] = 0.5
    write(stack, bad)
    os.kill(stack.sidecar.pid, signal.SIGHUP)
    await until(lambda: reloads(stack, "refused") >= 1, "the bad file is not refused")
    check = [sys.executable, "-m", "eigenmesh", "check", str(stack.file)]
    said = subprocess.run(check, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    complaint = said.stderr.strip().removeprefix("eigenmesh: ")
    assert "did you mean 'max_step'" in complaint
    assert complaint.replace("'", "") in stack.sidecar.log_path.read_text().replace("'", "")
    assert metric(stack.metrics(), "eigenmesh_settings_refused") == 1.0

    # So is what takes a restart.
    write(stack, strict | {"http": {"listen": "127.0.0.1:1"}})
    await until(
        lambda: "takes a restart to change" in stack.sidecar.log_path.read_text(),
        "another address is not refused",
    )

    # Another mesh: what stays keeps its weights, what is new begins with the operator's.
    write(stack, with_a_new_route(strict))
    await until(lambda: "new" in envoy_weights(stack), "Envoy did not get the route")
    assert metric(stack.metrics(), "eigenmesh_settings_refused") == 0.0
    assert envoy_weights(stack) == {**before, "new": {"d": 60, "b": 40}}
    await stack.load.begin("new", {**LIGHT, "new": 50.0}, seed=6)
    await asyncio.sleep(3.0)
    async with stack.client() as client:
        mesh = await client.get_mesh()
    assert {r.route for r in mesh.plan_in_force.routes} == {*stage.ROUTES, "new"}
    assert envoy_limit(stack, "d") == 1024

    # And back again.
    await stack.load.begin("back", LIGHT, seed=7)
    await asyncio.sleep(1.0)
    write(stack, stack.settings)
    await until(lambda: "new" not in envoy_weights(stack), "Envoy kept the route")
    await asyncio.sleep(2.0)
    assert stack.envoy.stats(TOUCHED) == untouched | {"cluster_manager.cluster_removed": 1}
    await stack.load.begin("quiet", {}, seed=1)
    await asyncio.sleep(1.0)
    await stack.load.close()
    for phase in ("run", "new", "back"):
        statuses = stack.load.table(phase).status.tolist()
        assert len(statuses) > 100
        assert set(statuses) == {200}, f"a request was dropped in {phase}"
