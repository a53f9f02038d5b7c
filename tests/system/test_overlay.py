"""`eigenmesh run` with `overlay: true` beside an Envoy that has everything from its own file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from eigenmesh.control.settings import parse_document
from eigenmesh.control.sidecar import Sidecar
from eigenmesh.demo import stage
from eigenmesh.mesh import Plan
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.xds.resource import RUNTIME

from .conftest import Stack, steerable
from .test_sidecar import FAST, LIGHT, decisions, envoy_limit


@pytest.mark.parametrize(
    "stack", [{"overlay": True, "settings": FAST | {"mode": "auto"}}], indirect=True
)
async def test_the_layer_follows_the_plan_and_no_request_fails(stack: Stack) -> None:
    await stack.load.begin("run", LIGHT, seed=1)
    await decisions(stack, 1, pb.Decision.ACTION_PUSH, 60)
    async with stack.client() as client:
        await client.set_mode("observe")  # a plan that stands still, to compare with
        await asyncio.sleep(1.0)
        mesh = await client.get_mesh()
        [node] = [n async for n in client.list_nodes()]
    await stack.load.begin("quiet", {}, seed=1)
    await asyncio.sleep(1.0)
    await stack.load.close()

    runtime = json.loads(stack.envoy.admin("/runtime"))["entries"]
    plan = {r.route: dict(r.weights) for r in mesh.plan_in_force.routes}
    assert plan.keys() == set(stage.ROUTES)
    own = pytest.approx(dict.fromkeys("abc", 1 / 3), abs=1e-3)
    for route, split in plan.items():
        shown = {c: runtime.get(f"weights.{route}.{c}") for c in split}
        if split == own:
            assert set(shown.values()) == {None}
            continue
        for cluster, weight in split.items():
            assert int(shown[cluster]["final_value"]) == pytest.approx(10_000 * weight, abs=1)
    assert any(split != own for split in plan.values())
    limits = {c.cluster: c.max_requests for c in mesh.plan_in_force.clusters}
    assert limits
    for name, limit in limits.items():
        assert envoy_limit(stack, name) == limit
    [subscription] = node.subscriptions
    assert subscription.type_url == RUNTIME
    assert subscription.acked_version == subscription.sent_version
    table = stack.load.table("run")
    assert len(table.status) > 200
    assert set(table.status.tolist()) == {200}, "a push failed a request"


async def test_a_plan_is_confirmed_though_no_envoy_asks_for_routes(tmp_path: Path) -> None:
    """Otherwise there would never be a plan to go back to."""
    ports = stage.Ports()
    static = steerable(stage.envoy_resources(ports))
    document = stage.settings(ports, tmp_path / "journal.sqlite")
    sidecar = Sidecar(
        parse_document(document | {"overlay": True, "envoy": {"static_resources": static}})
    )
    await sidecar.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{ports.xds}") as channel:
            untyped: Any = channel
            call = untyped.stream_stream(
                "/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime",
                request_serializer=DiscoveryRequest.SerializeToString,
                response_deserializer=DiscoveryResponse.FromString,
            )(timeout=30)
            request = DiscoveryRequest(resource_names=["eigenmesh"], type_url=RUNTIME)
            request.node.id = "envoy-1"
            await call.write(request)
            plan = Plan({r: {"a": 0.6, "b": 0.3, "c": 0.1} for r in stage.ROUTES}, {})
            for _ in range(2):
                response = await call.read()
                request.response_nonce = response.nonce
                request.version_info = response.version_info
                await call.write(request)
                if sidecar.loop.plan != plan:
                    await sidecar.loop.put_in_force(plan)
            async with asyncio.timeout(10):
                while sidecar.loop.confirmed != plan:
                    await asyncio.sleep(0.01)
            call.cancel()
    finally:
        await sidecar.stop()
