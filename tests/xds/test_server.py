"""The server over real gRPC, with clients that are no Envoy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.resource import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LISTENER,
    ROUTE,
    RUNTIME,
    SECRET,
)
from eigenmesh.xds.server import XdsServer

from .support import ask_delta, ask_sotw, snapshot

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
DELTA = f"{ADS}/DeltaAggregatedResources"
SOTW = f"{ADS}/StreamAggregatedResources"
TIMEOUT = 10.0


class Served:
    """A server on a free port and what it reported."""

    def __init__(self) -> None:
        self.events: list[XdsEvent] = []
        self.server = XdsServer("127.0.0.1:0", on_event=self.events.append)
        self.port = 0

    def kinds(self) -> list[str]:
        return [e.kind for e in self.events]

    @asynccontextmanager
    async def stream(self, method: str) -> AsyncIterator[Any]:
        """A stream of messages to the method, with `write`, `read` and `code`."""
        delta = "/Delta" in method
        response = DeltaDiscoveryResponse if delta else DiscoveryResponse
        request = DeltaDiscoveryRequest if delta else DiscoveryRequest
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            untyped: Any = channel
            call = untyped.stream_stream(
                method,
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )(timeout=TIMEOUT)
            yield call
            call.cancel()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    served.port = await served.server.start()
    yield served
    await served.server.stop(0)


async def test_ads_serves_both_variants(served: Served) -> None:
    content = snapshot(CLUSTER, a=1)
    served.server.publish(content)
    version = content.of(CLUSTER).version
    async with served.stream(DELTA) as delta, served.stream(SOTW) as sotw:
        await delta.write(ask_delta(CLUSTER, node="one"))
        await sotw.write(ask_sotw(CLUSTER, node="two"))
        first, second = await delta.read(), await sotw.read()
        assert first.resources[0].name == "a"
        assert second.version_info == version
        assert not await served.server.wait_acked(CLUSTER, version, 0.05), "nobody answered"
        await delta.write(ask_delta(CLUSTER, nonce=first.nonce))
        await sotw.write(ask_sotw(CLUSTER, nonce=second.nonce, version=version))
        assert await served.server.wait_acked(CLUSTER, version, TIMEOUT)
        assert served.server.connected == 2
        assert [n.node_id for n in served.server.nodes()] == ["one", "two"]
        [status] = served.server.nodes()[0].types
        assert status.wildcard
        assert status.sent_version == status.acked_version == version
        assert status.age is not None
    twice = ["ack", "connect", "sent", "subscribe"]
    assert sorted(served.kinds()[:8]) == sorted(twice * 2)


@pytest.mark.parametrize(
    ("service", "methods", "type_url"),
    [
        ("cluster.v3.ClusterDiscoveryService", "Clusters", CLUSTER),
        ("endpoint.v3.EndpointDiscoveryService", "Endpoints", ENDPOINT),
        ("listener.v3.ListenerDiscoveryService", "Listeners", LISTENER),
        ("route.v3.RouteDiscoveryService", "Routes", ROUTE),
        ("runtime.v3.RuntimeDiscoveryService", "Runtime", RUNTIME),
        ("secret.v3.SecretDiscoveryService", "Secrets", SECRET),
        ("extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs", EXTENSION_CONFIG),
    ],
)
async def test_every_type_has_a_service_of_its_own(
    served: Served, service: str, methods: str, type_url: str
) -> None:
    served.server.publish(snapshot(type_url, a=1))
    async with served.stream(f"/envoy.service.{service}/Delta{methods}") as delta:
        await delta.write(ask_delta("", "a", node="n"))
        assert (await delta.read()).resources[0].name == "a"
    async with served.stream(f"/envoy.service.{service}/Stream{methods}") as sotw:
        await sotw.write(ask_sotw("", "a", node="n"))
        assert (await sotw.read()).type_url == type_url


async def test_a_refusal_is_reported_and_waiting_for_it_ends(served: Served) -> None:
    content = snapshot(ROUTE, a=1)
    served.server.publish(content)
    async with served.stream(DELTA) as call:
        await call.write(ask_delta(ROUTE, "a", node="one"))
        response = await call.read()
        waiting = asyncio.create_task(
            served.server.wait_acked(ROUTE, content.of(ROUTE).version, TIMEOUT)
        )
        await call.write(ask_delta(ROUTE, nonce=response.nonce, error="not like this"))
        assert await waiting is False
        [nack] = [e for e in served.events if e.kind == "nack"]
        assert (nack.node_id, nack.type_url, nack.detail) == ("one", ROUTE, "not like this")
        [status] = served.server.nodes()[0].types
        assert (status.nack, status.nacks, status.acked_version) == ("not like this", 1, "")


async def test_a_version_that_reaches_nobody_is_not_acked(served: Served) -> None:
    content = snapshot(ROUTE, a=1)
    served.server.publish(content)
    assert not await served.server.wait_acked(ROUTE, content.of(ROUTE).version, 0.05)


async def test_a_change_that_concerns_nobody_is_in_force_at_once(served: Served) -> None:
    served.server.publish(snapshot(ROUTE, a=1, b=1))
    async with served.stream(DELTA) as call:
        await call.write(ask_delta(ROUTE, "a", node="one"))
        await call.write(ask_delta(ROUTE, nonce=(await call.read()).nonce))
        other = snapshot(ROUTE, a=1, b=2)
        served.server.publish(other)
        assert await served.server.wait_acked(ROUTE, other.of(ROUTE).version, TIMEOUT)


async def test_a_client_that_does_not_read_holds_up_nobody_and_skips_to_the_latest(
    served: Served,
) -> None:
    big = "x" * 200_000
    async with served.stream(DELTA) as slow, served.stream(DELTA) as quick:
        for node, call in (("slow", slow), ("quick", quick)):
            await call.write(ask_delta(CLUSTER, node=node))
        for number in range(50):
            content = snapshot(CLUSTER, a=f"{number}{big}")
            served.server.publish(content)
            response = await quick.read()
            assert response.system_version_info == content.of(CLUSTER).version
            await quick.write(ask_delta(CLUSTER, nonce=response.nonce))
        first = await slow.read()
        await slow.write(ask_delta(CLUSTER, nonce=first.nonce))
        last = await slow.read()
        assert last.system_version_info == content.of(CLUSTER).version


async def refused(call: Any, words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in (caught.value.details() or "")


@pytest.mark.parametrize(
    ("method", "request_", "words"),
    [
        (DELTA, ask_delta(""), "type_url is empty"),
        (SOTW, ask_sotw(""), "type_url is empty"),
        (
            "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
            ask_delta(CLUSTER),
            "on a stream of",
        ),
    ],
)
async def test_a_broken_request_ends_its_stream_with_the_reason(
    served: Served, method: str, request_: Any, words: str
) -> None:
    async with served.stream(method) as call:
        await call.write(request_)
        await refused(call, words)


async def test_bytes_that_are_no_request_end_their_stream_and_no_other(served: Served) -> None:
    served.server.publish(snapshot(CLUSTER, a=1))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        untyped: Any = channel
        call = untyped.stream_stream(DELTA)(timeout=TIMEOUT)
        await call.write(b"\xff\xff\xff\xff")
        await refused(call, "these 4 bytes are no DeltaDiscoveryRequest")
    async with served.stream(DELTA) as other:
        await other.write(ask_delta(CLUSTER, node="n"))
        assert (await other.read()).resources[0].name == "a"
    async with asyncio.timeout(TIMEOUT):
        while served.server.nodes():
            await asyncio.sleep(0.01)


async def test_a_listener_that_fails_breaks_no_stream() -> None:
    def fail(event: XdsEvent) -> None:
        raise RuntimeError(event.kind)

    served = Served()
    served.server = XdsServer("127.0.0.1:0", on_event=fail)
    served.port = await served.server.start()
    served.server.publish(snapshot(CLUSTER, a=1))
    async with served.stream(DELTA) as call:
        await call.write(ask_delta(CLUSTER, node="n"))
        assert (await call.read()).resources[0].name == "a"
    await served.server.stop(0)


async def test_a_taken_port_is_refused() -> None:
    """Without so_reuseport=0 two servers would share it, and Envoys would see either."""
    first = XdsServer("127.0.0.1:0")
    port = await first.start()
    second = XdsServer(f"127.0.0.1:{port}")
    with pytest.raises(RuntimeError):
        await second.start()
    await first.stop(0)
    await second.stop(0)


async def test_stopping_ends_the_streams_and_says_so(served: Served) -> None:
    async with served.stream(DELTA) as call:
        await call.write(ask_delta(CLUSTER, node="n"))
        async with asyncio.timeout(TIMEOUT):
            while not served.server.nodes():
                await asyncio.sleep(0.01)
            # Long before its grace is over.
            await served.server.stop(60)
        assert await call.code() == grpc.StatusCode.UNAVAILABLE
    assert served.kinds() == ["connect", "subscribe", "disconnect"]
    assert served.server.nodes() == ()
