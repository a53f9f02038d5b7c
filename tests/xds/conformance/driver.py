"""A client that speaks any of the four variants, so that every scenario is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from grpc.aio import EOF  # type: ignore[attr-defined]

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
from eigenmesh.xds.snapshot import Snapshot
from tests.xds.support import Told, ask_delta, ask_sotw, parse, resource

TIMEOUT = 10.0
"""Seconds that anything may take; nothing here waits for time to pass."""

WHOLE = frozenset({CLUSTER, LISTENER})
"""Types that have a wildcard, and that SotW sends whole."""

_ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/{}AggregatedResources"
_SEPARATE = {
    CLUSTER: "/envoy.service.cluster.v3.ClusterDiscoveryService/{}Clusters",
    ENDPOINT: "/envoy.service.endpoint.v3.EndpointDiscoveryService/{}Endpoints",
    LISTENER: "/envoy.service.listener.v3.ListenerDiscoveryService/{}Listeners",
    ROUTE: "/envoy.service.route.v3.RouteDiscoveryService/{}Routes",
    RUNTIME: "/envoy.service.runtime.v3.RuntimeDiscoveryService/{}Runtime",
    SECRET: "/envoy.service.secret.v3.SecretDiscoveryService/{}Secrets",
    EXTENSION_CONFIG: (
        "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/{}ExtensionConfigs"
    ),
}

FENCES = tuple(f"fence-{i}" for i in range(4))
"""Names for `Client.quiet`. Whole responses tell by themselves; of other types they exist, since
SotW cannot say that a name does not."""

_FENCES = [resource(t, name) for t in _SEPARATE.keys() - WHOLE for name in FENCES]


@dataclass(frozen=True)
class Variant:
    """ "Four Variants"."""

    delta: bool
    aggregated: bool

    def __str__(self) -> str:
        transport = "aggregated" if self.aggregated else "separate"
        return f"{'delta' if self.delta else 'sotw'}-{transport}"

    def method(self, type_url: str) -> str:
        path = _ADS if self.aggregated else _SEPARATE[type_url]
        return path.format("Delta" if self.delta else "Stream")

    def whole(self, type_url: str) -> bool:
        """Responses carry everything subscribed ("Grouping Resources into Responses")."""
        return not self.delta and type_url in WHOLE


class Site:
    """A server and what it serves; `async with` runs it."""

    def __init__(self) -> None:
        self.events: list[XdsEvent] = []
        self.server = XdsServer("127.0.0.1:0", on_event=self.events.append)
        self.port = 0
        self.snapshot = Snapshot()

    async def __aenter__(self) -> Self:
        self.port = await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop(0)

    def serve(self, type_url: str, **contents: object) -> None:
        """From now on these are all resources of the type; other types stay."""
        new = [resource(type_url, name, content) for name, content in contents.items()]
        gone = self.snapshot.of(type_url).resources.keys() - contents.keys()
        self.publish(self.snapshot.replace(new, [(type_url, name) for name in gone]))

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot.replace(_FENCES)
        self.server.publish(self.snapshot)

    def versions(self, type_url: str, *names: str) -> dict[str, str]:
        """Of these resources, as they are served now."""
        resources = self.snapshot.of(type_url).resources
        return {name: resources[name].version for name in names}

    def version(self, type_url: str) -> str:
        """Of the type."""
        return self.snapshot.of(type_url).version

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not true():
                await asyncio.sleep(0.002)

    async def heard(self, kind: str, times: int = 1) -> None:
        """Waits until the server has taken in so many events of a kind."""
        await self.until(lambda: sum(e.kind == kind for e in self.events) >= times)


@dataclass
class _Side:
    """What a client must remember of one type."""

    names: dict[str, None] = field(default_factory=dict)
    legacy: bool = True
    nonce: str = ""
    version: str = ""
    told: Mapping[str, str] = field(default_factory=dict)
    fences: int = 0


class Client:
    """Sends what its caller says, in its variant, and keeps the books that SotW demands."""

    def __init__(self, port: int, variant: Variant, node: str = "client") -> None:
        self.variant = variant
        self._node = node
        self._channel: Any = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._calls: dict[str, Any] = {}
        self._sides: dict[str, _Side] = {}

    async def close(self) -> None:
        for call in self._calls.values():
            call.cancel()
        await self._channel.close()

    async def subscribe(
        self,
        type_url: str,
        *names: str,
        known: Mapping[str, str] | None = None,
        version: str = "",
    ) -> None:
        """Asks for more names; without any, the first time, for everything (legacy wildcard).

        known (delta), version (SotW): what a returning client has.
        """
        side = self._side(type_url)
        side.names |= dict.fromkeys(names)
        side.legacy = side.legacy and not names
        if self.variant.delta:
            await self.send(ask_delta(type_url, *names, known=known))
        else:
            side.version = version or side.version
            await self._send_sotw(type_url)

    async def unsubscribe(self, type_url: str, *names: str) -> None:
        side = self._side(type_url)
        side.legacy = False
        for name in names:
            side.names.pop(name, None)
        if self.variant.delta:
            await self.send(ask_delta(type_url, unsubscribe=names))
        else:
            await self._send_sotw(type_url)

    async def ask_again(self, type_url: str, name: str) -> None:
        """What a client sends that has lost a resource which it still wants."""
        if not self.variant.delta:
            await self.unsubscribe(type_url, name)
        await self.subscribe(type_url, name)

    async def receive(self, type_url: str | None = None) -> Told:
        """The next response on the type's stream, which must be of this type; unanswered.

        None: of any type, on the aggregated stream.
        """
        call = self._calls[self._stream_of(type_url or "")]
        async with asyncio.timeout(TIMEOUT):
            body = await call.read()
            assert body is not EOF, await call.details()
        told = parse(body, delta=self.variant.delta)
        assert type_url in (None, told.type_url)
        side = self._side(told.type_url)
        side.nonce, side.told = told.nonce, told.versions
        return told

    async def ack(self, told: Told) -> None:
        if self.variant.delta:
            await self.send(ask_delta(told.type_url, nonce=told.nonce))
        else:
            self._side(told.type_url).version = told.version
            await self._send_sotw(told.type_url)

    async def nack(self, told: Told, text: str = "not like this") -> None:
        if self.variant.delta:
            await self.send(ask_delta(told.type_url, nonce=told.nonce, error=text))
        else:
            await self._send_sotw(told.type_url, error=text)

    async def accept(self, type_url: str | None = None) -> Told:
        """`receive`, and the ACK."""
        told = await self.receive(type_url)
        await self.ack(told)
        return told

    async def quiet(self, type_url: str) -> None:
        """Proves that the server had nothing more to say on the type's stream.

        Asks for one more name: had anything else been due, it would come first or beside it.
        Everything of the type must be answered before.
        """
        side = self._side(type_url)
        before, fence = side.told, FENCES[side.fences]
        side.fences += 1
        if side.legacy and self.variant.whole(type_url):
            # Naming something ends the legacy wildcard, unless it is spelled out.
            await self.subscribe(type_url, "*", fence)
        else:
            await self.subscribe(type_url, fence)
        told = await self.accept(type_url)
        if self.variant.whole(type_url):
            assert told.versions.items() <= before.items()
        else:
            assert {*told.names, *told.removed} == {fence}

    async def send(self, request: DiscoveryRequest | DeltaDiscoveryRequest) -> None:
        """Any request; nothing of it is remembered. The first of a stream gets the node."""
        key = self._stream_of(request.type_url)
        if key not in self._calls:
            method = self.variant.method(request.type_url)
            call = self._channel.stream_stream(method, type(request).SerializeToString, None)
            self._calls[key] = call(timeout=2 * TIMEOUT)
            request.node.id = self._node
        await self._calls[key].write(request)

    async def _send_sotw(self, type_url: str, error: str = "") -> None:
        side = self._side(type_url)
        await self.send(
            ask_sotw(type_url, *side.names, nonce=side.nonce, version=side.version, error=error)
        )

    def _side(self, type_url: str) -> _Side:
        return self._sides.setdefault(type_url, _Side())

    def _stream_of(self, type_url: str) -> str:
        return "" if self.variant.aggregated else type_url
