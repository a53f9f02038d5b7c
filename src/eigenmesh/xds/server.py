"""The xDS server: grpc.aio around the sans-IO streams.

A connection has a task that reads requests into its stream, and at most one more that writes what
the stream gave. The next response is taken only when the last one is written, so that a client
which does not read delays itself alone, and after a while loses its stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import RpcError
from grpc.aio import EOF  # type: ignore[attr-defined]

from eigenmesh.xds.csds import SERVICE as CSDS
from eigenmesh.xds.csds import ClientStatus
from eigenmesh.xds.delta import DeltaStream
from eigenmesh.xds.event import Kind, XdsEvent
from eigenmesh.xds.group import Group
from eigenmesh.xds.node import DEFAULT_GROUP, Grouping, Node
from eigenmesh.xds.options import ServerOptions
from eigenmesh.xds.request import ProtocolError
from eigenmesh.xds.resource import Key, Resource
from eigenmesh.xds.services import SERVICES
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.sotw import SotwStream
from eigenmesh.xds.status import NodeStatus, StreamStatus, by_node
from eigenmesh.xds.stream import Ack, Nack, NodeRefusedError

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_AnyStream = DeltaStream | SotwStream

_GATHER = 20e-6
"""Seconds a stream for which answers are gathered; looking at one takes about a microsecond."""
_LAST_WORDS = 2.0
"""Seconds that a handler may take to end after its call; a few milliseconds, on an idle machine."""


@dataclass(eq=False)
class _Connection:
    """state: of its group, once that is known. writing: the task that writes a response of the
    type `writing_type` since `writing_since`. behind: something was published that the stream has
    not been given. end: the status and the text with which the stream is ended, once it is."""

    context: Context
    since: float
    end: asyncio.Future[tuple[grpc.StatusCode | None, str]]
    handler: asyncio.Task[Any] | None
    group: str = ""
    state: Group[_Connection] | None = None
    answered: dict[str, float] = field(default_factory=dict)
    behind: bool = False
    writing: asyncio.Task[None] | None = None
    writing_type: str = ""
    writing_since: float = 0.0
    stream: _AnyStream = field(init=False)

    @property
    def node(self) -> Node:
        return self.stream.node or Node()

    def finish(self, code: grpc.StatusCode | None = None, error: str = "") -> None:
        if not self.end.done():
            self.end.set_result((code, error))


class XdsServer:
    """Serves each group of nodes the latest snapshot published for it. Use from one event loop.

    grouping: which node is of which group; by default all are of one. on_event is called in the
    event loop, and must be quick. merged: pushes that a busy stream was spared, since a later one
    came before it could take them. credentials: of the port; None: plain text. authorise: asked
    once per stream with the node and the names in the client's certificate (DNS:... and URI:...);
    what it returns is why the node is refused, None lets it in. only: the one type that is
    served; a stream that asks for another is ended, since an empty answer would take from an Envoy
    what it has from elsewhere.
    """

    def __init__(
        self,
        listen: str = "127.0.0.1:18000",
        *,
        grouping: Grouping | None = None,
        options: ServerOptions | None = None,
        on_event: Callable[[XdsEvent], None] | None = None,
        credentials: grpc.ServerCredentials | None = None,
        authorise: Callable[[Node, Sequence[str]], str | None] | None = None,
        only: str | None = None,
    ) -> None:
        self._listen = listen
        self._grouping = grouping or Grouping()
        self._options = options or ServerOptions()
        self._on_event = on_event
        self._credentials = credentials
        self._authorise = authorise
        self._only = only
        self._groups: dict[str, Group[_Connection]] = {}
        self._connections: set[_Connection] = set()
        self._by_node: dict[str, set[_Connection]] = {}
        self._server: grpc.aio.Server | None = None
        self._moved = asyncio.Event()
        self._stopping = False
        self._watch: asyncio.Task[None] | None = None
        self.merged = 0

    @property
    def serving(self) -> bool:
        """Something has been published."""
        return any(group.served.snapshot is not None for group in self._groups.values())

    @property
    def groups(self) -> frozenset[str]:
        """Those that have connected Envoys."""
        return frozenset(name for name, group in self._groups.items() if group.connections)

    @property
    def connected(self) -> int:
        """How many streams have said who they are; `nodes` tells more and costs more."""
        return sum(len(group.connections) for group in self._groups.values())

    @property
    def connected_nodes(self) -> int:
        """How many Envoys have said who they are; those that share an id are one."""
        return len(self._by_node)

    async def start(self) -> int:
        """Returns the port. Raises RuntimeError when the address is taken."""
        self._server = grpc.aio.server(options=self._options.of_grpc())
        self._server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(
                    service,
                    {
                        f"Stream{methods}": self._handler(SotwStream, only or self._only),
                        f"Delta{methods}": self._handler(DeltaStream, only or self._only),
                    },
                )
                for service, methods, only in SERVICES
                if self._only in (None, only or self._only)
            )
        )
        handlers = ClientStatus(self.streams).handlers()
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(CSDS, handlers),)
        )
        if self._credentials is None:
            port = self._server.add_insecure_port(self._listen)
        else:
            port = self._server.add_secure_port(self._listen, self._credentials)
        await self._server.start()
        self._watch = asyncio.create_task(self._reset_stalled(), name="xds-stalled")
        return port

    async def stop(self, grace: float | None = 0.5) -> None:
        """Ends every stream; after `grace` seconds by force. Envoys keep what they have."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
        for connection in self._connections:
            connection.finish(grpc.StatusCode.UNAVAILABLE, "Eigenmesh is stopping")
        if self._server is not None:
            await self._server.stop(grace)
        # A call is over a moment before its handler is; none must outlive the event loop.
        if handlers := {c.handler for c in self._connections if c.handler is not None}:
            await asyncio.wait(handlers, timeout=_LAST_WORDS)

    def publish(
        self,
        snapshot: Snapshot,
        group: str = DEFAULT_GROUP,
        own: Mapping[str, Resource] | None = None,
    ) -> None:
        """From now on this is served. A stream that is busy skips to the latest one.

        own: node id -> a resource that this node is served in place of the snapshot's of the same
        name; None: as before.
        """
        state = self._group(group)
        state.publish(snapshot, own, _now())
        self._wake(state)

    def tailor(self, own: Mapping[str, Resource], group: str = DEFAULT_GROUP) -> None:
        """From now on these nodes (by id) are served these resources in place of the group's."""
        state = self._group(group)
        state.tailor(own, frozenset(), _now())
        self._wake(
            state, [c for node in own for c in self._by_node.get(node, ()) if c.state is state]
        )

    def peers(self, node_id: str, type_url: str) -> int:
        """How many clients that call themselves so follow the type."""
        return len(
            {
                connection.context.peer()
                for connection in self._by_node.get(node_id, ())
                if any(lane.type_url == type_url for lane in connection.stream.lanes)
            }
        )

    def published(self, group: str = DEFAULT_GROUP) -> Snapshot | None:
        """What was published last."""
        return self._group(group).served.published

    def served(self, group: str = DEFAULT_GROUP) -> Snapshot | None:
        """What streams are given now: what was published, but for versions that were given up."""
        return self._group(group).served.snapshot

    def streams(self) -> Iterator[StreamStatus]:
        """Every stream that has said who it is."""
        now = _now()
        for c in self._connections:
            if c.group:
                yield StreamStatus(
                    node=c.node,
                    group=c.group,
                    peer=c.context.peer(),
                    age=now - c.since,
                    lanes=c.stream.lanes,
                    answered={kind: now - at for kind, at in c.answered.items()},
                )

    def nodes(self) -> tuple[NodeStatus, ...]:
        """The connected Envoys."""
        return by_node(self.streams())

    async def wait_acked(
        self, type_url: str, version: str | None, within: float, group: str = DEFAULT_GROUP
    ) -> bool:
        """Waits until every connected Envoy of the group that follows the type has taken it.

        version: of the whole type, `snapshot.of(type_url).version`; None: what each of them is
        served now. False when an Envoy refused it, after `within` seconds, and when none follows
        the type until then.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while (verdict := self._verdict(group, type_url, version)) is None:
                    self._moved.clear()
                    await self._moved.wait()
                    # A verdict looks at every stream: the more there are, the more answers it
                    # is left to gather first.
                    await asyncio.sleep(_GATHER * self.connected)
                return verdict
        return False

    def _verdict(self, group: str, type_url: str, version: str | None) -> bool | None:
        state = self._group(group)
        lanes = [
            (lane, version or _version(state.snapshot_of(connection.node.id), type_url))
            for connection in state.connections
            for lane in connection.stream.lanes
            if lane.type_url == type_url and (lane.subscription.wildcard or lane.subscription.names)
        ]
        if any(
            # What was refused stays noted until the answer to the next attempt.
            lane.refused and lane.in_flight is None and lane.sent_version == wanted
            for lane, wanted in lanes
        ):
            return False
        took = all(lane.acked_version == wanted for lane, wanted in lanes)
        return True if lanes and took else None

    def _group(self, name: str) -> Group[_Connection]:
        if (group := self._groups.get(name)) is None:
            group = self._groups[name] = Group()
        return group

    def _wake(
        self, state: Group[_Connection], connections: Sequence[_Connection] | None = None
    ) -> None:
        """To see what there is for them; by default all of the group's."""
        loop = asyncio.get_running_loop()
        for connection in state.connections if connections is None else connections:
            self.merged += connection.behind or connection.stream.waiting
            connection.behind = True
            loop.call_soon(self._pump, connection)

    def _handler(self, kind: type[_AnyStream], only: str | None) -> grpc.RpcMethodHandler[Any, Any]:
        async def serve(_: object, context: Context) -> None:
            await self._serve(kind, only, context)

        # Bytes both ways: responses are serialised already, and a request that cannot be parsed
        # is answered like any other mistake of the client's.
        return grpc.stream_stream_rpc_method_handler(serve, None, None)

    async def _serve(self, kind: type[_AnyStream], only: str | None, context: Context) -> None:
        loop = asyncio.get_running_loop()
        connection = _Connection(context, loop.time(), loop.create_future(), asyncio.current_task())
        connection.stream = kind(only, lambda node: self._admit(connection, node))
        if self._stopping:
            connection.finish(grpc.StatusCode.UNAVAILABLE, "Eigenmesh is stopping")
        self._connections.add(connection)
        reader = loop.create_task(self._read(connection))
        try:
            code, error = await connection.end
            if connection.writing is not None:
                # gRPC cannot end a stream before what was written to it: who reads on finds the
                # end behind that response.
                await asyncio.wait([connection.writing])
            if code is not None:
                await context.abort(code, error)
        finally:
            reader.cancel()
            self._leave(connection)

    def _leave(self, connection: _Connection) -> None:
        """Forgets the connection; nothing is sent to it any more."""
        if connection in self._connections:
            self._connections.discard(connection)
            if connection.state is not None:
                connection.state.connections.discard(connection)
                same = self._by_node[connection.node.id]
                same.discard(connection)
                if not same:
                    del self._by_node[connection.node.id]
                self._emit(connection, "disconnect")

    def _admit(self, connection: _Connection, node: Node) -> Snapshot | None:
        """What the node is served. Raises NodeRefusedError."""
        if self._authorise is not None:
            reason = self._authorise(node, _certified(connection.context))
            if reason is not None:
                raise NodeRefusedError(reason)
        group = self._grouping.of(node)
        if group is None:
            raise NodeRefusedError(self._grouping.refusal(node))
        connection.group, connection.state = group, self._group(group)
        connection.state.connections.add(connection)
        self._by_node.setdefault(node.id, set()).add(connection)
        return connection.state.snapshot_of(node.id)

    def _pump(self, connection: _Connection) -> None:
        """Begins to write the next response, if there is one and none is being written."""
        if connection.writing is not None or connection.state is None or connection.end.done():
            return
        connection.behind = False
        connection.stream.update(connection.state.snapshot_of(connection.node.id))
        response = connection.stream.next()
        self._moved.set()
        if response is not None:
            # Before it is written, since the client may answer before that is known to be over.
            self._emit(connection, "sent", response.type_url, response.version)
            connection.writing_type, connection.writing_since = response.type_url, _now()
            connection.writing = asyncio.create_task(self._write(connection, response.body))

    async def _write(self, connection: _Connection, body: bytes) -> None:
        try:
            await connection.context.write(body)
        except (grpc.aio.BaseError, RpcError) as error:
            log.debug("a stream ended: %s", error)
            connection.finish()
        finally:
            connection.writing = None
        self._pump(connection)

    async def _reset_stalled(self) -> None:
        """Ends the streams of clients that leave a response unread."""
        patience = self._options.write_timeout
        while True:
            await asyncio.sleep(patience / 4)
            late = _now() - patience
            for connection in list(self._connections):
                if connection.writing is not None and connection.writing_since < late:
                    reason = f"a response was not read for {patience:g} s"
                    connection.finish(grpc.StatusCode.DEADLINE_EXCEEDED, reason)
                    self._emit(connection, "reset", connection.writing_type, detail=reason)
                    self._leave(connection)

    async def _read(self, connection: _Connection) -> None:
        try:
            while (data := await connection.context.read()) is not EOF:
                self._receive(connection, data)
        except NodeRefusedError as error:
            self._emit(connection, "refused", detail=str(error))
            connection.finish(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except ProtocolError as error:
            connection.finish(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (grpc.aio.BaseError, RpcError) as error:
            log.debug("a stream ended: %s", error)
        except Exception:
            log.exception("a request of %s could not be handled", connection.node.id)
            connection.finish(grpc.StatusCode.INTERNAL, "this request could not be handled")
        finally:
            connection.finish()

    def _receive(self, connection: _Connection, data: bytes) -> None:
        new, lanes = connection.stream.node is None, connection.stream.lanes
        answers = connection.stream.receive_bytes(data)
        if new:
            self._emit(connection, "connect")
        for lane in connection.stream.lanes:
            if lane not in lanes:
                self._emit(connection, "subscribe", lane.type_url)
        for answer in answers:
            self._answered(connection, answer)
        self._pump(connection)

    def _answered(self, connection: _Connection, answer: Ack | Nack) -> None:
        state = connection.state
        assert state is not None, "who is not admitted has not been sent anything"
        now = _now()
        if isinstance(answer, Ack):
            node = connection.node.id
            # What one node has of its own is no other's last good version.
            shared = [n for n in answer.names if not state.is_own(node, (answer.type_url, n))]
            state.served.accepted(answer.resources, shared)
            if answer.resumed:
                return
            seconds = state.age(node, answer.type_url, answer.version, now)
            self._emit(connection, "ack", answer.type_url, answer.version, seconds=seconds)
        else:
            self._emit(connection, "nack", answer.type_url, answer.version, answer.text)
            self._refused(state, answer)
        connection.answered[answer.type_url] = now

    def _refused(self, state: Group[_Connection], nack: Nack) -> None:
        assert state.served.snapshot is not None
        there = state.served.snapshot.of(nack.type_url).resources
        # Once for each resource that there is: a client may refuse without end.
        keys = {(nack.type_url, name) for name in nack.names if name in there} - state.refused
        if keys and self._options.fallback_after is not None:
            state.refused |= keys
            loop = asyncio.get_running_loop()
            names = frozenset(name for _, name in keys)
            loop.call_later(
                self._options.fallback_after, self._fall_back, state, nack.type_url, names
            )

    def _fall_back(self, state: Group[_Connection], type_url: str, names: frozenset[str]) -> None:
        """Gives up what was refused then and is refused still."""
        state.refused.difference_update((type_url, name) for name in names)
        still: dict[Key, tuple[str, str]] = {}
        for connection in state.connections:
            for lane in connection.stream.lanes:
                if lane.type_url == type_url:
                    for name in names & lane.refused.keys():
                        still[type_url, name] = (lane.sent.get(name, ""), lane.refused[name])
                        culprit = connection
        if not still:
            return
        gone = state.served.fall_back((key, version) for key, (version, _) in still.items())
        if not gone:
            return
        state.note_versions(_now())
        self._wake(state)
        for key in gone:
            version, text = still[key]
            self._emit(culprit, "fallback", key[0], version, f"{key[1]}: {text}")

    def _emit(
        self,
        connection: _Connection,
        kind: Kind,
        type_url: str = "",
        version: str = "",
        detail: str = "",
        seconds: float | None = None,
    ) -> None:
        self._moved.set()
        if self._on_event is not None:
            event = XdsEvent(
                kind, connection.node.id, type_url, version, detail, connection.group, seconds
            )
            try:
                self._on_event(event)
            except Exception:
                log.exception("the xDS event listener failed on %s", event)


def _certified(context: Context) -> tuple[str, ...]:
    """The names in the client's certificate, as openssl writes them."""
    found = context.auth_context()
    return tuple(
        f"{kind}:{name.decode(errors='replace')}"
        for kind, key in (("DNS", "peer_dns"), ("URI", "peer_uri"))
        for name in found.get(key, ())
    )


def _version(snapshot: Snapshot | None, type_url: str) -> str:
    return "" if snapshot is None else snapshot.of(type_url).version


def _now() -> float:
    """Of the event loop's clock, in seconds."""
    return asyncio.get_running_loop().time()
