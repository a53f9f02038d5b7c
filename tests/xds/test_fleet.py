"""Groups, fallback, resets, connection age and client status over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from envoy.service.status.v3.csds_pb2 import (
    ClientStatusRequest,
    ClientStatusResponse,
    ConfigStatus,
)

from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.node import Grouping, NodeMatch
from eigenmesh.xds.options import ServerOptions
from eigenmesh.xds.resource import CLUSTER, ROUTE
from eigenmesh.xds.server import XdsServer

from .support import ask_delta, snapshot

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
STATUS = "/envoy.service.status.v3.ClientStatusDiscoveryService/"
TIMEOUT = 15.0
EDGE = Grouping((("edge", NodeMatch(cluster="edge")), ("canary", NodeMatch(id="canary-*"))), None)


class Serving:
    def __init__(self, server: XdsServer, port: int, events: list[XdsEvent]) -> None:
        self.server, self.port, self.events = server, port, events

    def happened(self, kind: str) -> list[XdsEvent]:
        return [e for e in self.events if e.kind == kind]

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
            yield channel

    @asynccontextmanager
    async def stream(self, node: str, cluster: str = "") -> AsyncIterator[Client]:
        async with self.channel() as channel:
            call = channel.stream_stream(
                METHOD,
                request_serializer=DeltaDiscoveryRequest.SerializeToString,
                response_deserializer=DeltaDiscoveryResponse.FromString,
            )(timeout=TIMEOUT)
            yield Client(call, node, cluster)
            call.cancel()


class Client:
    def __init__(self, call: Any, node: str, cluster: str) -> None:
        self.call, self._node, self._cluster = call, node, cluster

    async def ask(self, type_url: str, *names: str, **more: Any) -> None:
        request = ask_delta(type_url, *names, node=self._node, **more)
        request.node.cluster = self._cluster
        await self.call.write(request)

    async def take(self, error: str = "") -> dict[str, str]:
        """The next response's versions by name; answers it."""
        response = await self.call.read()
        await self.call.write(ask_delta(response.type_url, nonce=response.nonce, error=error))
        return {r.name: r.version for r in response.resources}


@asynccontextmanager
async def serving(**how: Any) -> AsyncIterator[Serving]:
    events: list[XdsEvent] = []
    server = XdsServer("127.0.0.1:0", on_event=events.append, **how)
    port = await server.start()
    try:
        yield Serving(server, port, events)
    finally:
        await server.stop(0)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not true():
            await asyncio.sleep(0.01)


async def test_each_group_is_served_its_own_and_nobody_elses_changes() -> None:
    async with serving(grouping=EDGE) as s:
        s.server.publish(snapshot(ROUTE, a="for edge"), "edge")
        s.server.publish(snapshot(ROUTE, a="for canaries"), "canary")
        async with s.stream("e", "edge") as edge, s.stream("canary-1") as canary:
            await edge.ask(ROUTE, "a")
            await canary.ask(ROUTE, "a")
            assert await edge.take() != await canary.take()
            new = snapshot(ROUTE, a="new for canaries")
            s.server.publish(new, "canary")
            assert await canary.take() == {"a": new.of(ROUTE).resources["a"].version}
            assert await s.server.wait_acked(ROUTE, new.of(ROUTE).version, TIMEOUT, "canary")
            assert len(s.happened("sent")) == 3
        groups = {(n.node_id, n.group) for n in s.server.nodes()}
        assert groups <= {("e", "edge"), ("canary-1", "canary")}


async def test_a_node_of_no_group_is_refused_with_the_reason() -> None:
    async with serving(grouping=EDGE) as s, s.stream("who", "elsewhere") as stranger:
        s.server.publish(snapshot(ROUTE, a=1), "edge")
        await stranger.ask(ROUTE, "a")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stranger.call.read()
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert "'who' of cluster 'elsewhere' fits no group" in (caught.value.details() or "")
        assert [e.kind for e in s.events] == ["refused"]


async def test_a_version_that_stays_refused_gives_way_to_the_last_good_one() -> None:
    async with serving(options=ServerOptions(fallback_after=0.3)) as s:
        good = snapshot(ROUTE, a="good")
        s.server.publish(good)
        async with s.stream("one") as one, s.stream("two") as two:
            for client in (one, two):
                await client.ask(ROUTE, "a")
                await client.take()
            await until(lambda: len(s.happened("ack")) == 2)
            bad = snapshot(ROUTE, a="bad")
            s.server.publish(bad)
            await one.take()
            await two.take("I do not like it")
            version = good.of(ROUTE).resources["a"].version
            assert await one.take() == {"a": version}
            assert await two.take() == {"a": version}
            [event] = s.happened("fallback")
            assert (event.type_url, event.detail) == (ROUTE, "a: I do not like it")
            assert s.server.published() is bad
            assert await s.server.wait_acked(ROUTE, good.of(ROUTE).version, TIMEOUT)
            # The same content is not tried again; other content is.
            s.server.publish(bad.replace([]))
            better = snapshot(ROUTE, a="better")
            s.server.publish(better)
            assert await two.take() == {"a": better.of(ROUTE).resources["a"].version}


async def test_a_client_that_comes_back_tells_what_was_good() -> None:
    """After a restart of the server nothing is sent, yet there is something to fall back to."""
    async with serving(options=ServerOptions(fallback_after=0.2)) as s:
        good = snapshot(ROUTE, a="good")
        s.server.publish(good)
        version = good.of(ROUTE).resources["a"].version
        async with s.stream("one") as one:
            await one.ask(ROUTE, "a", known={"a": version})
            await until(lambda: s.server.nodes())
            s.server.publish(snapshot(ROUTE, a="bad"))
            await one.take("no")
            assert await one.take() == {"a": version}


async def test_who_leaves_a_response_unread_is_reset_and_nobody_else_notices() -> None:
    big = "x" * 20_000_000
    async with serving(options=ServerOptions(write_timeout=0.3)) as s:
        s.server.publish(snapshot(CLUSTER, a=big))
        async with s.stream("stalled") as stalled, s.stream("other") as other:
            await stalled.ask(CLUSTER)
            await until(lambda: s.happened("reset"))
            [reset] = s.happened("reset")
            assert (reset.node_id, reset.type_url) == ("stalled", CLUSTER)
            assert not s.server.nodes()
            await other.ask(CLUSTER)
            assert (await other.take()).keys() == {"a"}
            # Whoever reads on is told, and can come back.
            await stalled.call.read()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stalled.call.read()
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert "was not read for 0.3 s" in (caught.value.details() or "")


async def test_pushes_that_a_busy_stream_never_sees_are_counted() -> None:
    async with serving() as s, s.stream("one") as one:
        s.server.publish(snapshot(ROUTE, a=0))
        await one.ask(ROUTE, "a")
        unanswered = await one.call.read()
        for number in (1, 2, 3):
            s.server.publish(snapshot(ROUTE, a=number))
        assert s.server.merged == 3
        await one.call.write(ask_delta(ROUTE, nonce=unanswered.nonce))
        latest = snapshot(ROUTE, a=3).of(ROUTE).resources["a"].version
        assert await one.take() == {"a": latest}


async def test_an_ack_of_what_is_current_tells_how_long_it_took() -> None:
    async with serving() as s, s.stream("one") as one:
        s.server.publish(snapshot(ROUTE, a=0))
        await one.ask(ROUTE, "a")
        await one.take()
        await until(lambda: s.happened("ack"))
        [ack] = s.happened("ack")
        assert ack.seconds is not None
        assert ack.seconds > 0


async def test_a_connection_ends_at_its_age_and_the_client_comes_back_to_nothing_new() -> None:
    async with serving(options=ServerOptions(max_connection_age=0.5)) as s:
        content = snapshot(ROUTE, a=0)
        s.server.publish(content)
        version = content.of(ROUTE).resources["a"].version
        async with s.stream("one") as one:
            await one.ask(ROUTE, "a")
            await one.take()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await one.call.read()
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        async with s.stream("one") as again:
            await again.ask(ROUTE, "a", known={"a": version})
            await until(lambda: len(s.happened("connect")) == 2)
            await asyncio.sleep(0.1)
        assert len(s.happened("sent")) == 1


async def client_status(s: Serving, request: ClientStatusRequest) -> ClientStatusResponse:
    async with s.channel() as channel:
        coding = {
            "request_serializer": ClientStatusRequest.SerializeToString,
            "response_deserializer": ClientStatusResponse.FromString,
        }
        fetched = await channel.unary_unary(f"{STATUS}FetchClientStatus", **coding)(request)
        call = channel.stream_stream(f"{STATUS}StreamClientStatus", **coding)()
        await call.write(request)
        assert await call.read() == fetched, "both methods say the same"
        call.cancel()
        assert isinstance(fetched, ClientStatusResponse)
        return fetched


async def test_client_status_tells_each_resource_of_each_client_and_no_content() -> None:
    async with serving() as s, s.stream("one", "edge") as one, s.stream("two") as two:
        content = snapshot(ROUTE, good=0, bad=0, late=0)
        s.server.publish(content)
        await one.ask(ROUTE, "good", "absent")
        await one.take()
        await two.ask(ROUTE, "bad")
        await two.take("not this")
        await until(lambda: len(s.happened("ack")) + len(s.happened("nack")) == 2)
        await two.ask(ROUTE, "late")
        await two.call.read()
        told = await client_status(s, ClientStatusRequest())
        assert [(c.node.id, c.node.cluster) for c in told.config] == [("one", "edge"), ("two", "")]
        states = {g.name: g for c in told.config for g in c.generic_xds_configs}
        shown = {n: (g.config_status, g.client_status) for n, g in states.items()}
        assert shown == {
            "good": (ConfigStatus.SYNCED, ClientResourceStatus.ACKED),
            "absent": (ConfigStatus.NOT_SENT, ClientResourceStatus.DOES_NOT_EXIST),
            "bad": (ConfigStatus.ERROR, ClientResourceStatus.NACKED),
            "late": (ConfigStatus.STALE, ClientResourceStatus.REQUESTED),
        }
        assert states["good"].version_info == content.of(ROUTE).resources["good"].version
        assert states["bad"].error_state.details == "not this"
        assert not any(g.HasField("xds_config") for g in states.values())

        request = ClientStatusRequest()
        request.node_matchers.add().node_id.prefix = "o"
        assert [c.node.id for c in (await client_status(s, request)).config] == ["one"]
        request.node_matchers[0].node_id.safe_regex.regex = "("
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client_status(s, request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
