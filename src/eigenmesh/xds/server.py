"""The xDS server: grpc.aio around the sans-IO streams.

A connection has two tasks: one reads requests into its stream, one writes what the stream gives.
The writer takes the next response only when the last one is written, so that a client which does
not read delays itself alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import grpc
from grpc import RpcError
from grpc.aio import EOF  # type: ignore[attr-defined]

from eigenmesh.xds.delta import DeltaStream
from eigenmesh.xds.resource import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LISTENER,
    ROUTE,
    RUNTIME,
    SECRET,
)
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.sotw import SotwStream
from eigenmesh.xds.stream import Ack, Lane, Node, ProtocolError

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_AnyStream = DeltaStream | SotwStream

_SERVICES: tuple[tuple[str, str, str | None], ...] = (
    ("envoy.service.discovery.v3.AggregatedDiscoveryService", "AggregatedResources", None),
    ("envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters", CLUSTER),
    ("envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints", ENDPOINT),
    ("envoy.service.listener.v3.ListenerDiscoveryService", "Listeners", LISTENER),
    ("envoy.service.route.v3.RouteDiscoveryService", "Routes", ROUTE),
    ("envoy.service.runtime.v3.RuntimeDiscoveryService", "Runtime", RUNTIME),
    ("envoy.service.secret.v3.SecretDiscoveryService", "Secrets", SECRET),
    (
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        "ExtensionConfigs",
        EXTENSION_CONFIG,
    ),
)
"""(service, what its Stream... and Delta... methods are called, the type it serves)"""

_OPTIONS = (
    # Without it a second server would share the port unseen.
    ("grpc.so_reuseport", 0),
    # The bootstrap's keepalive pings must not count as abuse.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)


@dataclass(frozen=True, slots=True)
class XdsEvent:
    """Something that happened between an Envoy and the server.

    connect and disconnect concern a stream and have no type. detail: the reason of a nack.
    """

    kind: Literal["connect", "disconnect", "sent", "ack", "nack"]
    node_id: str
    type_url: str = ""
    version: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type at one Envoy. It is in step when sent and acked version are the server's.

    names: what it asked for by name. nack: its words, empty unless something is refused now.
    nacks: how often it refused. age: seconds since it last answered, None if it never did.
    """

    type_url: str
    names: tuple[str, ...]
    wildcard: bool
    sent_version: str
    acked_version: str
    nack: str
    nacks: int
    age: float | None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One connected Envoy. age: seconds since it connected."""

    node_id: str
    node_cluster: str
    peer: str
    age: float
    types: tuple[TypeStatus, ...]


@dataclass(eq=False)
class _Connection:
    stream: _AnyStream
    peer: str
    since: float
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    answered: dict[str, float] = field(default_factory=dict)
    error: str = ""
    ended: bool = False

    @property
    def node(self) -> Node:
        return self.stream.node or Node()


class XdsServer:
    """Serves the latest published snapshot. Use from one event loop.

    on_event is called in the event loop, and must be quick.
    """

    def __init__(
        self,
        listen: str = "127.0.0.1:18000",
        *,
        on_event: Callable[[XdsEvent], None] | None = None,
    ) -> None:
        self._listen = listen
        self._on_event = on_event
        self._snapshot: Snapshot | None = None
        self._connections: set[_Connection] = set()
        self._server: grpc.aio.Server | None = None
        self._moved = asyncio.Event()
        self._stopping = False

    @property
    def connected(self) -> int:
        """How many streams have said who they are; `nodes` tells more and costs more."""
        return sum(1 for c in self._connections if c.stream.node is not None)

    async def start(self) -> int:
        """Returns the port. Raises RuntimeError when the address is taken."""
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    service,
                    {
                        f"Stream{methods}": self._handler(SotwStream, only),
                        f"Delta{methods}": self._handler(DeltaStream, only),
                    },
                )
                for service, methods, only in _SERVICES
            )
        )
        port = self._server.add_insecure_port(self._listen)
        await self._server.start()
        return port

    async def stop(self, grace: float | None = 0.5) -> None:
        """Ends every stream; after `grace` seconds by force. Envoys keep what they have."""
        self._stopping = True
        for connection in self._connections:
            connection.ended = True
            connection.wake.set()
        if self._server is not None:
            await self._server.stop(grace)

    def publish(self, snapshot: Snapshot) -> None:
        """From now on this is served. A stream that is busy skips to the latest one."""
        self._snapshot = snapshot
        for connection in self._connections:
            connection.wake.set()

    @property
    def snapshot(self) -> Snapshot | None:
        """What was published last."""
        return self._snapshot

    def nodes(self) -> tuple[NodeStatus, ...]:
        """The connected Envoys. Streams of one connection and node are one entry."""
        now = asyncio.get_running_loop().time()
        grouped: dict[tuple[str, str, str], list[_Connection]] = {}
        for connection in self._connections:
            if connection.stream.node is not None:
                node = connection.node
                key = (node.id, node.cluster, connection.peer)
                grouped.setdefault(key, []).append(connection)
        return tuple(
            NodeStatus(
                node_id=node_id,
                node_cluster=node_cluster,
                peer=peer,
                age=now - min(c.since for c in connections),
                types=tuple(
                    _type_status(lane, c.answered.get(lane.type_url), now)
                    for c in connections
                    for lane in c.stream.lanes
                ),
            )
            for (node_id, node_cluster, peer), connections in sorted(grouped.items())
        )

    async def wait_acked(self, type_url: str, version: str, within: float) -> bool:
        """Waits until every connected Envoy that follows the type has accepted `version`.

        version: of the whole type, `snapshot.of(type_url).version`. False when an Envoy refused
        it, after `within` seconds, and when none follows the type until then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while (verdict := self._verdict(type_url, version)) is None:
                    self._moved.clear()
                    await self._moved.wait()
                return verdict
        return False

    def _verdict(self, type_url: str, version: str) -> bool | None:
        lanes = [
            lane
            for connection in self._connections
            for lane in connection.stream.lanes
            if lane.type_url == type_url and (lane.subscription.wildcard or lane.subscription.names)
        ]
        if any(
            # What was refused stays noted until the answer to the next attempt.
            lane.refused and lane.in_flight is None and lane.sent_version == version
            for lane in lanes
        ):
            return False
        return True if lanes and all(lane.acked_version == version for lane in lanes) else None

    def _handler(self, kind: type[_AnyStream], only: str | None) -> grpc.RpcMethodHandler[Any, Any]:
        async def serve(_: object, context: Context) -> None:
            await self._serve(kind(only), context)

        # Bytes both ways: responses are serialised already, and a request that cannot be parsed
        # is answered like any other mistake of the client's.
        return grpc.stream_stream_rpc_method_handler(serve, None, None)

    async def _serve(self, stream: _AnyStream, context: Context) -> None:
        now = asyncio.get_running_loop().time()
        connection = _Connection(stream, context.peer(), now, ended=self._stopping)
        self._connections.add(connection)
        reader = asyncio.create_task(self._read(connection, context))
        try:
            await self._write(connection, context)
            if connection.error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, connection.error)
            if self._stopping:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Eigenmesh is stopping")
        finally:
            self._connections.discard(connection)
            reader.cancel()
            if stream.node is not None:
                self._emit(XdsEvent("disconnect", connection.node.id))

    async def _write(self, connection: _Connection, context: Context) -> None:
        stream = connection.stream
        while not connection.ended:
            connection.wake.clear()
            stream.update(self._snapshot)
            while not connection.ended and (response := stream.next()) is not None:
                # Before the write is over, since the client may answer before this task goes on.
                self._emit(
                    XdsEvent("sent", connection.node.id, response.type_url, response.version)
                )
                await context.write(response.body)
                stream.update(self._snapshot)
            self._moved.set()
            await connection.wake.wait()

    async def _read(self, connection: _Connection, context: Context) -> None:
        try:
            while (data := await context.read()) is not EOF:
                self._receive(connection, data)
        except ProtocolError as error:
            connection.error = str(error)
        except (grpc.aio.BaseError, RpcError) as error:
            log.debug("a stream ended: %s", error)
        finally:
            connection.ended = True
            connection.wake.set()

    def _receive(self, connection: _Connection, data: bytes) -> None:
        new = connection.stream.node is None
        answers = connection.stream.receive_bytes(data)
        if new:
            self._emit(XdsEvent("connect", connection.node.id))
        for answer in answers:
            now = asyncio.get_running_loop().time()
            connection.answered[answer.type_url] = now
            node_id, type_url, version = connection.node.id, answer.type_url, answer.version
            if isinstance(answer, Ack):
                self._emit(XdsEvent("ack", node_id, type_url, version))
            else:
                self._emit(XdsEvent("nack", node_id, type_url, version, answer.text))
        connection.wake.set()

    def _emit(self, event: XdsEvent) -> None:
        self._moved.set()
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                log.exception("the xDS event listener failed on %s", event)


def _type_status(lane: Lane, answered: float | None, now: float) -> TypeStatus:
    return TypeStatus(
        type_url=lane.type_url,
        names=tuple(sorted(lane.subscription.names)),
        wildcard=lane.subscription.wildcard,
        sent_version=lane.sent_version,
        acked_version=lane.acked_version,
        nack="; ".join(sorted(set(lane.refused.values()))),
        nacks=lane.nacks,
        age=None if answered is None else now - answered,
    )
