"""A sidecar whose Envoy refuses the plan: the one before is in force again, everywhere."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from prometheus_client import generate_latest

from eigenmesh.control.journal import Journal
from eigenmesh.control.settings import parse_document
from eigenmesh.control.sidecar import Sidecar, mesh_hash
from eigenmesh.demo import stage
from eigenmesh.mesh import Action, Plan
from eigenmesh.xds.resource import ROUTE, RUNTIME

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


@asynccontextmanager
async def client(port: int) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        untyped: Any = channel
        call = untyped.stream_stream(
            METHOD,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )(timeout=30)
        yield call
        call.cancel()


def weights(response: DeltaDiscoveryResponse) -> list[int]:
    """Of the first steered route."""
    table = RouteConfiguration()
    assert response.resources[0].resource.Unpack(table)
    [host] = [h for h in table.virtual_hosts if h.name == stage.STEERED]
    return [c.weight.value for c in host.routes[0].route.weighted_clusters.clusters]


async def test_a_plan_that_envoy_refuses_is_taken_back_and_said_to_be(tmp_path: Path) -> None:
    ports = stage.Ports()
    document = copy.deepcopy(stage.settings(ports, tmp_path / "journal.sqlite"))
    document["xds"]["fallback_after"] = "300ms"
    settings = parse_document(document)
    sidecar = Sidecar(settings)
    await sidecar.start()
    try:
        async with client(ports.xds) as call:
            answers: dict[str, str] = {ROUTE: "", RUNTIME: ""}

            async def take() -> DeltaDiscoveryResponse:
                response: DeltaDiscoveryResponse = await call.read()
                answer = DeltaDiscoveryRequest(
                    type_url=response.type_url, response_nonce=response.nonce
                )
                if error := answers[response.type_url]:
                    answer.error_detail.message = error
                await call.write(answer)
                return response

            for kind, name in ((ROUTE, "edge"), (RUNTIME, "eigenmesh")):
                request = DeltaDiscoveryRequest(type_url=kind, resource_names_subscribe=[name])
                request.node.id = "envoy-1"
                await call.write(request)
                await take()
            original = sidecar.loop.plan

            # A plan that is taken becomes the one to go back to.
            good = Plan({r: {"a": 0.6, "b": 0.3, "c": 0.1} for r in stage.ROUTES}, {})
            await sidecar.loop.put_in_force(good)
            assert weights(await take()) == [6000, 3000, 1000]
            async with asyncio.timeout(10):
                while sidecar.loop.confirmed == original:
                    await asyncio.sleep(0.01)
            assert sidecar.loop.confirmed == good

            answers[ROUTE] = "these weights are not for me"
            bad = Plan({r: {"a": 0.1, "b": 0.1, "c": 0.8} for r in stage.ROUTES}, {})
            await sidecar.loop.put_in_force(bad)
            assert weights(await take()) == [1000, 1000, 8000]
            assert weights(await take()) == [6000, 3000, 1000]
            async with asyncio.timeout(10):
                while sidecar.loop.plan != good:
                    await asyncio.sleep(0.01)
            decision = await sidecar.loop.tick()
            assert decision.action is Action.HOLD
            assert "not in force, Envoy refused it" in decision.why
            assert "edge: these weights are not for me" in decision.why
            assert decision.plan == good
            assert sidecar.xds.published() is sidecar.xds.served(), "nothing is given up any more"
            metrics = generate_latest(sidecar.metrics.registry).decode()
            assert re.search(r"^eigenmesh_plans_refused_total 1\.0$", metrics, re.M)
            kept = re.search(
                r'^eigenmesh_xds_convergence_seconds_count{type="Route.*} (\d+)', metrics, re.M
            )
            assert kept
            assert int(kept[1]) >= 2
    finally:
        await sidecar.stop()
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.resume(mesh_hash(settings.topology)).plan == good, "a restart serves it too"
    journal.close()
