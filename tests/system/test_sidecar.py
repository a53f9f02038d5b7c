"""`eigenmesh run` beside a real Envoy under load, observed from outside."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eigenmesh.demo import stage
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import operations_service_pb2 as writes
from eigenmesh.v1.operations_service_pb2_grpc import OperationsServiceStub

from .conftest import Stack

LIGHT = {"shop": 100.0, "search": 100.0}
FAST = {"interval": "1s", "guard": {"max_step": 0.2}}


async def decisions(stack: Stack, wanted: int, action: int, timeout: float) -> list[pb.Decision]:
    """The next decisions with this action; fails with what came instead."""
    found: list[pb.Decision] = []
    seen: list[str] = []
    async with stack.client() as client:
        try:
            async with asyncio.timeout(timeout):
                async for decision in client.watch_decisions():
                    seen.append(f"{decision.number} {decision.action} {decision.why}")
                    if decision.action == action:
                        found.append(decision)
                    if len(found) >= wanted:
                        return found
        except TimeoutError:
            pytest.fail(f"wanted {wanted} decisions with action {action}, saw: {seen}")
    return found


def envoy_weights(stack: Stack) -> dict[str, dict[str, int]]:
    """The weights that Envoy itself says are in force."""
    dump = json.loads(stack.envoy.admin("/config_dump?resource=dynamic_route_configs"))
    weights: dict[str, dict[str, int]] = {}
    for config in dump["configs"]:
        for host in config["route_config"]["virtual_hosts"]:
            for route in host["routes"]:
                split = route["route"].get("weighted_clusters")
                if split and host["name"] == stage.STEERED:
                    weights[route["name"]] = {c["name"]: c["weight"] for c in split["clusters"]}
    return weights


def envoy_limit(stack: Stack, cluster: str) -> int:
    """max_requests in force, as /clusters shows it (it includes the runtime override)."""
    text = stack.envoy.admin("/clusters")
    found = re.search(rf"^{cluster}::default_priority::max_requests::(\d+)$", text, re.M)
    assert found, text
    return int(found.group(1))


def explained(stack: Stack, number: int) -> str:
    """What the command line says of a decision."""
    command = [sys.executable, "-m", "eigenmesh", "ctl", "explain", str(number)]
    address = f"127.0.0.1:{stack.ports.api}"
    return subprocess.run(
        [*command, "--address", address], capture_output=True, text=True, timeout=30, check=True
    ).stdout


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
    assert found, f"{name} is not in /metrics"
    return float(found.group(1))


@pytest.mark.parametrize(
    "stack",
    [{"settings": FAST}, {"settings": FAST, "prometheus": True}],
    ids=["scrape", "prometheus"],
    indirect=True,
)
async def test_observes_then_steers_and_no_request_fails(stack: Stack) -> None:
    await stack.load.begin("watch", LIGHT, seed=1)
    recommended = (await decisions(stack, 1, pb.Decision.ACTION_RECOMMEND, 40))[0]
    assert {c.cluster for c in recommended.clusters} == {"a", "b", "c"}
    assert {d.route for d in recommended.demands} == {"shop", "search"}
    assert {c.part for c in recommended.candidates} == {"weights", "limits"}
    assert {c.solver for c in recommended.candidates} >= {"born-machine", "qaoa"}
    assert set(envoy_weights(stack)["shop"].values()) == {3333, 3334}, "observe pushes nothing"
    assert envoy_limit(stack, "a") == 1024

    async with stack.client() as client:
        assert (await client.set_mode("auto")).mode == pb.MODE_AUTO
    pushed = (await decisions(stack, 1, pb.Decision.ACTION_PUSH, 40))[-1]
    async with stack.client() as client:
        await client.set_mode("observe")  # a plan that stands still, to compare with
        await asyncio.sleep(1.0)
        mesh = await client.get_mesh()
        [node] = [n async for n in client.list_nodes()]
    await stack.load.begin("quiet", {}, seed=1)
    await asyncio.sleep(1.0)
    await stack.load.close()

    in_force = {r.route: dict(r.weights) for r in mesh.plan_in_force.routes}
    shown = envoy_weights(stack)
    for route, split in in_force.items():
        for cluster, weight in split.items():
            assert shown[route][cluster] == pytest.approx(10_000 * weight, abs=1)
    limits = {c.cluster: c.max_requests for c in mesh.plan_in_force.clusters}
    assert limits
    for cluster, limit in limits.items():
        assert envoy_limit(stack, cluster) == limit
    assert pushed.number <= mesh.latest_decision.number
    assert node.id == "envoy-1"
    for subscription in node.subscriptions:
        assert subscription.acked_version == subscription.sent_version
        assert subscription.nack == ""

    # The latest decision, and an older one out of the journal, explain themselves.
    for number in (mesh.latest_decision.number, recommended.number):
        text = explained(stack, number)
        assert f"decision {number}, " in text
        for query in recommended.queries:
            assert f"query: {query}\n" in text
        assert "born-machine" in text
        assert "qaoa" in text
    with pytest.raises(grpc.aio.AioRpcError, match="not in the journal"):
        async with stack.client() as client:
            await client.get_decision(10**6)

    table = stack.load.table("watch")
    assert len(table.status) > 500
    assert set(table.status.tolist()) == {200}, "a push failed a request"
    text = stack.metrics()
    assert metric(text, 'eigenmesh_decisions_total{action="push"}') >= 1
    assert metric(text, "eigenmesh_xds_nodes") == 1


@pytest.mark.parametrize("stack", [{"settings": FAST | {"mode": "auto"}}], indirect=True)
async def test_killed_under_load_envoy_serves_on_and_a_restart_changes_nothing(
    stack: Stack,
) -> None:
    await stack.load.begin("run", LIGHT, seed=2)
    await decisions(stack, 1, pb.Decision.ACTION_PUSH, 60)
    async with stack.client() as client:
        # A plan is journaled just before it is pushed; let the last one arrive.
        await client.set_mode("observe")
        await asyncio.sleep(1.0)
    stack.sidecar.kill()
    before = envoy_weights(stack)
    limits = {c: envoy_limit(stack, c) for c in "abc"}
    counters = r"cluster_manager\.cluster_|listener_manager\.listener_(added|modified|removed)"
    untouched = stack.envoy.stats(counters)
    await asyncio.sleep(3.0)
    assert envoy_weights(stack) == before

    # Back in observe mode, as the journal has it: whatever Envoy is sent now comes from resuming.
    async with asyncio.timeout(30):
        stack.start_eigenmesh()
        updates = r"edge\.rds\.edge\.update_success|runtime\.load_success|\.update_success"
        async with stack.client() as client:
            assert (await client.get_mesh()).mode == pb.MODE_OBSERVE
            while not (await client.get_mesh()).connected_nodes:
                await asyncio.sleep(0.1)
            first = stack.envoy.stats(updates)
            await asyncio.sleep(3.0)
            mesh = await client.get_mesh()
    in_force = {r.route: dict(r.weights) for r in mesh.plan_in_force.routes}
    shown = envoy_weights(stack)
    assert shown == before
    for route, split in in_force.items():
        for cluster, weight in split.items():
            assert shown[route][cluster] == pytest.approx(10_000 * weight, abs=1)
    assert {c: envoy_limit(stack, c) for c in "abc"} == limits
    assert stack.envoy.stats(counters) == untouched, "a cluster or listener was touched"
    assert stack.envoy.stats(updates) == first
    await stack.load.begin("quiet", {}, seed=1)
    await asyncio.sleep(1.0)
    await stack.load.close()
    statuses = stack.load.table("run").status.tolist()
    assert len(statuses) > 1000
    assert set(statuses) == {200}, "a request was dropped"


@pytest.mark.parametrize("stack", [{"settings": FAST}], indirect=True)
async def test_the_event_loop_is_not_blocked_by_solving(stack: Stack, record_property: Any) -> None:
    """Reported, not asserted on time: the figures are in the report and in /metrics."""
    await stack.load.begin("run", LIGHT, seed=3)
    await decisions(stack, 4, pb.Decision.ACTION_RECOMMEND, 60)
    text = stack.metrics()
    total = metric(text, "eigenmesh_event_loop_busy_seconds_count")
    over = total - metric(text, 'eigenmesh_event_loop_busy_seconds_bucket{le="0.01"}')
    late = metric(text, "eigenmesh_event_loop_lag_seconds_count")
    late -= metric(text, 'eigenmesh_event_loop_lag_seconds_bucket{le="0.01"}')
    solved = metric(text, "eigenmesh_tick_seconds_count")
    assert total > 0
    assert solved >= 4
    record_property("beats", total)
    record_property("busy_over_10ms", over)
    record_property("late_over_10ms", late)
    print(f"\n{total:.0f} beats over {solved:.0f} ticks:", end=" ")
    print(f"{over:.0f} busy for more than 10 ms, {late:.0f} late by more than 10 ms")
    maps = Path(f"/proc/{stack.sidecar.pid}/maps").read_text()
    assert "lightning" not in maps, "the circuit simulator is loaded in the serving process"


async def test_the_api_answers_health_reflection_and_bad_requests(stack: Stack) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.ports.api}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(
            health_pb2.HealthCheckRequest(service="eigenmesh.v1.MeshService")
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            stub = OperationsServiceStub(channel)  # type: ignore[no-untyped-call]
            await stub.SetMode(writes.SetModeRequest(name="meshes/-"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "use MODE_OBSERVE, MODE_APPROVE or MODE_AUTO" in (caught.value.details() or "")


async def test_without_traffic_nothing_moves_and_the_decision_says_why(stack: Stack) -> None:
    async with stack.client() as client:
        await client.set_mode("auto")
    held = await decisions(stack, 2, pb.Decision.ACTION_HOLD, 30)
    assert all(d.why for d in held)
    assert envoy_limit(stack, "a") == 1024


async def test_ctl_nodes_shows_what_each_envoy_has_taken(stack: Stack) -> None:
    command = [sys.executable, "-m", "eigenmesh", "ctl", "nodes"]
    command += ["--address", f"127.0.0.1:{stack.ports.api}"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if "envoy-1" in line]
    for kind in ("Cluster", "Listener", "RouteConfiguration", "Runtime"):
        [line] = [line for line in lines if kind in line]
        assert "in step" in line
        assert "default" in line
        assert "s ago" in line
