"""What there is and what would be, over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from eigenmesh.api.client import MeshClient
from eigenmesh.api.names import id_of
from eigenmesh.v1 import mesh_pb2 as pb

from .stage import Stage, envoy


async def test_the_mesh_is_shown_whole(stage: Stage, client: MeshClient) -> None:
    stage.nodes += [envoy("e1"), envoy("e2")]
    mesh = await client.get_mesh()
    assert (mesh.name, mesh.id, mesh.mode) == ("meshes/shop-mesh", "shop-mesh", pb.MODE_AUTO)
    assert mesh.connected_nodes == 2
    [route] = mesh.plan_in_force.routes
    assert dict(route.weights) == dict(stage.simulation.loop.plan.weights["shop"])
    assert mesh.latest_decision.number == 4
    assert mesh.latest_decision.name == "meshes/shop-mesh/decisions/4"
    assert {c.cluster for c in mesh.latest_decision.clusters} == {"a", "b", "c"}
    assert not mesh.pending_decision
    assert not mesh.stopped


async def test_the_mesh_may_be_called_by_its_name_and_no_other(stage: Stage) -> None:
    from eigenmesh.v1 import mesh_service_pb2 as api
    from eigenmesh.v1.mesh_service_pb2_grpc import MeshServiceStub

    async with grpc.aio.insecure_channel(stage.address) as channel:
        stub = MeshServiceStub(channel)  # type: ignore[no-untyped-call]
        assert (await stub.GetMesh(api.GetMeshRequest(name="meshes/shop-mesh"))).id == "shop-mesh"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetMesh(api.GetMeshRequest(name="meshes/other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "meshes/shop-mesh" in (caught.value.details() or "")


async def test_decisions_come_one_by_one_and_in_lists(stage: Stage, client: MeshClient) -> None:
    latest = await client.get_decision()
    assert latest.number == 4
    first = await client.get_decision(1)
    assert first.number == 1
    assert first.candidates, "the journal has it whole"
    numbers = [d.number async for d in client.list_decisions()]
    assert numbers == [4, 3, 2, 1]
    [basic] = [d async for d in client.list_decisions(most=1)]
    assert (basic.why, basic.action) == (latest.why, latest.action)
    assert not basic.clusters
    [full] = [d async for d in client.list_decisions(most=1, full=True)]
    assert full == latest


async def test_decisions_are_seen_as_they_are_made(stage: Stage, client: MeshClient) -> None:
    seen: list[int] = []
    async with asyncio.timeout(20):
        async for decision in client.watch_decisions():
            seen.append(decision.number)
            if len(seen) == 3:
                break
            await stage.simulation.tick()
    assert seen == [4, 5, 6]


async def test_the_mesh_is_seen_as_it_changes(stage: Stage, client: MeshClient) -> None:
    """By a decision, by what somebody asks, by an Envoy that comes; and only then."""

    async def arrive() -> None:
        stage.nodes.append(envoy("e1"))

    changes: list[Callable[[], Awaitable[object]]] = [
        stage.simulation.tick,
        lambda: client.pause("lunch"),
        arrive,
    ]
    seen: list[pb.Mesh] = []
    async with asyncio.timeout(20):
        async for mesh in client.watch_mesh():
            seen.append(mesh)
            if not changes:
                break
            await changes.pop(0)()
    assert [m.latest_decision.number for m in seen] == [4, 5, 5, 5]
    assert [m.controls.paused for m in seen] == ["", "", "lunch", "lunch"]
    assert [m.connected_nodes for m in seen] == [0, 0, 0, 1]


async def test_nodes_are_listed_and_found(stage: Stage, client: MeshClient) -> None:
    stage.nodes += [envoy("edge/2"), envoy("edge/1")]
    nodes = [n async for n in client.list_nodes()]
    assert [n.id for n in nodes] == ["edge/1", "edge/2"]
    assert [id_of(n.name) for n in nodes] == ["edge/1", "edge/2"], "slashes are part of an id"
    node = await client.get_node("edge/2")
    assert node.subscriptions[0].acked_version == "v1"
    with pytest.raises(grpc.aio.AioRpcError, match="not connected"):
        await client.get_node("edge")


async def test_routes_show_weights_demand_pins_and_canaries(
    stage: Stage, client: MeshClient
) -> None:
    loop = stage.simulation.loop
    guard = replace(loop.settings.guard, canaries={("shop", "c"): 0.5})
    loop.settings = replace(loop.settings, guard=guard)
    await client.pin("shop", {"a": 0.6})
    [route] = [r async for r in client.list_routes()]
    assert route == await client.get_route("shop")
    assert dict(route.weights) == dict(loop.plan.weights["shop"])
    assert route.demand == pytest.approx(loop.latest.observation.demands["shop"])  # type: ignore[union-attr]
    assert dict(route.pins) == {"a": 0.6}
    assert dict(route.canaries) == {"c": 0.5}
    await client.promote("shop", "c")
    assert not (await client.get_route("shop")).canaries
    with pytest.raises(grpc.aio.AioRpcError, match="there are shop"):
        await client.get_route("shopping")


async def test_clusters_show_what_was_seen_learned_and_set(
    stage: Stage, client: MeshClient
) -> None:
    loop = stage.simulation.loop
    clusters = [c async for c in client.list_clusters()]
    assert [c.id for c in clusters] == ["a", "b", "c"]
    a = await client.get_cluster("a")
    assert a == clusters[0]
    assert loop.latest is not None
    assert a.state.curve.capacity == loop.latest.curves["a"].curve.capacity
    assert a.state.load == loop.latest.observation.clusters["a"].load  # type: ignore[union-attr]
    assert a.limits.max_requests == loop.plan.limits["a"].max_requests
    assert dict(a.weights) == {"shop": loop.plan.weights["shop"]["a"]}
    await client.set_mode("observe", cluster="a")
    assert (await client.get_cluster("a")).mode == pb.MODE_OBSERVE
    assert (await client.get_cluster("b")).mode == pb.MODE_AUTO


async def test_a_proposal_changes_nothing(stage: Stage, client: MeshClient) -> None:
    plan, number = stage.simulation.loop.plan, stage.simulation.loop.latest
    proposed = await client.propose()
    assert proposed.proposed.routes
    assert not proposed.name
    assert (stage.simulation.loop.plan, stage.simulation.loop.latest) == (plan, number)
    assert [e async for e in client.list_audit_entries()] == []


async def test_what_if_a_cluster_is_gone_and_demand_grows(client: MeshClient) -> None:
    now = await client.what_if()
    more = await client.what_if(scale=1.5)
    without = await client.what_if(without=["a"])
    asked = await client.what_if({"shop": 100.0}, capacities={"b": 0.5})
    assert more.demands["shop"] == pytest.approx(1.5 * now.demands["shop"])
    assert more.predicted > now.predicted
    assert set(without.plan.routes[0].weights) == {"b", "c"}
    assert asked.demands["shop"] == 100.0
    assert asked.clusters["b"].capacity == pytest.approx(0.5 * now.clusters["b"].capacity)


async def test_health_and_reflection_are_open(stage: Stage) -> None:
    services = ["eigenmesh.v1.MeshService", "eigenmesh.v1.OperationsService"]
    async with grpc.aio.insecure_channel(stage.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", *services):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        [found] = [a async for a in stub.ServerReflectionInfo(iter(asked))]
    names = {s.name for s in found.list_services_response.service}
    assert names >= set(services)
