"""gRPC's own xDS client: a channel that routes for itself, with no Envoy between.

It wants a Listener named as its target with an `api_listener`, fetches routes, clusters and
endpoints by name, by SotW ADS alone, and has no runtime (gRFC A27, A28).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from eigenmesh.demo.processes import ChildProcess, free_port
from eigenmesh.mesh import Plan
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.operator import parse_operator
from eigenmesh.xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.translate import Translator

from .conftest import MANAGER, ROUTER, endpoints
from .grpc_client import METHOD, SERVICE

TARGET = "shop"
RATE = 200.0
PUSHES = 50
SWAPS = 2
DELAY = 0.03


@dataclass(frozen=True)
class Answer:
    """A line of the client's; see there."""

    status: str
    backend: str
    connection: str
    detail: str


@dataclass
class Rig:
    """Backends a to d. A test runs the xDS server, on `xds_port`, and then starts the client, which
    fails what it cannot route (an Envoy without a server would only not be ready)."""

    folder: Path
    xds_port: int
    ports: Mapping[str, int]
    cleanup: AsyncExitStack
    answers: list[Answer] = field(default_factory=list)
    events: list[XdsEvent] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def document(self, *names: str) -> dict[str, Any]:
        """One route over these clusters, as an operator writes it for gRPC."""
        clusters = [{"name": name, "weight": 1} for name in names]
        route = {
            "name": "all",
            "match": {"prefix": ""},
            "route": {"weighted_clusters": {"clusters": clusters}},
        }
        manager = {
            "@type": MANAGER,
            "stat_prefix": TARGET,
            "route_config": {
                "name": "table",
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
            },
            "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
        }
        return {
            "listeners": [{"name": TARGET, "api_listener": {"api_listener": manager}}],
            "clusters": [
                {"name": name, "type": "EDS", "lb_policy": "ROUND_ROBIN"} for name in names
            ],
            "endpoints": [self.assignment(name) for name in names],
        }

    def assignment(self, name: str) -> dict[str, Any]:
        """gRPC ignores a locality without a weight."""
        assignment = endpoints(name, self.ports[name])
        assignment["endpoints"][0] |= {"locality": {"zone": "z"}, "load_balancing_weight": 1}
        return assignment

    def snapshot(self, **split: float) -> Snapshot:
        translator = Translator(parse_operator(self.document(*split)))
        return translator.snapshot(Plan({"all": split}, {}))

    def happened(self, kind: str, type_url: str = "") -> int:
        return sum(1 for e in self.events if (e.kind, e.type_url) == (kind, type_url))

    @asynccontextmanager
    async def serving(self, snapshot: Snapshot) -> AsyncIterator[XdsServer]:
        server = XdsServer(f"127.0.0.1:{self.xds_port}", on_event=self.events.append)
        server.publish(snapshot)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

    async def start(self, *backends: str, port: int | None = None) -> None:
        """The client under load, until it is answered by these. port: of the xDS server."""
        uri = f"127.0.0.1:{port or self.xds_port}"
        start = {
            "xds_servers": [{"server_uri": uri, "channel_creds": [{"type": "insecure"}]}],
            "node": {"id": "grpc-1", "cluster": "edge"},
        }
        client = ChildProcess(
            "grpc-client",
            [sys.executable, str(Path(__file__).with_name("grpc_client.py")), TARGET, str(RATE)],
            env={"GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(start)},
            log=self.folder / "client.log",
            pipes=True,
        )
        await self.cleanup.enter_async_context(client)
        reading = asyncio.create_task(self._read(client))
        self.cleanup.callback(reading.cancel)
        await self.reaches(*backends)

    async def _read(self, client: ChildProcess) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), client.stdout
        )
        while line := await reader.readline():
            self.answers.append(Answer(**json.loads(line)))
            self._more.set()

    async def more(self, count: int) -> list[Answer]:
        """The next answers, that many."""
        seen = len(self.answers)
        async with asyncio.timeout(20.0):
            while len(self.answers) < seen + count:
                self._more.clear()
                await self._more.wait()
        return self.answers[seen : seen + count]

    async def reaches(self, *backends: str) -> None:
        """Waits until the answers come from these, from all of them and from no other."""
        async with asyncio.timeout(20.0):
            while {a.backend for a in await self.more(40)} != set(backends):
                pass

    def connections(self) -> set[tuple[str, str]]:
        """(backend, connection) of all answers. More than one of a backend: it was given up."""
        return {(a.backend, a.connection) for a in self.answers}

    def outcome(self) -> Counter[tuple[str, str]]:
        return Counter((a.status, a.detail) for a in self.answers)


async def backend(name: str) -> tuple[grpc.aio.Server, int]:
    """A server whose answer is its name and the client's end of the connection."""

    async def who(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return f"{name} {context.peer()}".encode()

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    methods = {METHOD: grpc.unary_unary_rpc_method_handler(who)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as cleanup:
        ports = {}
        for name in "abcd":
            server, ports[name] = await backend(name)
            cleanup.push_async_callback(server.stop, 0.5)
        yield Rig(tmp_path, free_port(), ports, cleanup)


@asynccontextmanager
async def distance(port: int, delay: float) -> AsyncIterator[int]:
    """A port that leads to `port`, everything `delay` seconds later."""

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await asyncio.sleep(delay)
            sink.write(data)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        finally:
            far_writer.close()
            writer.close()

    relay = await asyncio.start_server(meet, "127.0.0.1", 0)
    async with relay:
        yield relay.sockets[0].getsockname()[1]


async def test_weight_pushes_cost_no_request_and_no_connection(rig: Rig) -> None:
    chance = random.Random(7)
    async with rig.serving(rig.snapshot(a=0.4, b=0.3, c=0.3)) as server:
        await rig.start("a", "b", "c")
        before = {t: rig.happened("sent", t) for t in (LISTENER, CLUSTER, ENDPOINT)}
        for _ in range(PUSHES):
            parts = [chance.uniform(0.1, 1.0) for _ in "abc"]
            pushed = rig.snapshot(**{n: p / sum(parts) for n, p in zip("abc", parts, strict=True)})
            server.publish(pushed)
            assert await server.wait_acked(ROUTE, pushed.of(ROUTE).version, 10.0)
            await rig.more(2)
        last = rig.snapshot(a=0.8, b=0.1, c=0.1)
        server.publish(last)
        assert await server.wait_acked(ROUTE, last.of(ROUTE).version, 10.0)
        await rig.more(20)
        seen = Counter(a.backend for a in await rig.more(400))
        assert 280 < seen["a"] < 360, "320, give or take five standard deviations"
        assert {t: rig.happened("sent", t) for t in before} == before, "only routes were sent"
        assert set(rig.outcome()) == {("OK", "")}
        assert len(rig.connections()) == 3


async def test_clusters_come_and_go_under_load_without_an_error(rig: Rig) -> None:
    """Added, shifted to and removed; then one for the other in a single push, again and again.

    At a distance, so that what is done too early is done for many requests.
    """
    before = rig.snapshot(a=0.4, b=0.3, c=0.3)
    async with rig.serving(before) as server, distance(rig.xds_port, DELAY) as port:

        async def push(**split: float) -> None:
            snapshot = rig.snapshot(**split)
            server.publish(snapshot)
            await rig.reaches(*(name for name, part in split.items() if part))
            for type_url in (CLUSTER, ENDPOINT, ROUTE):
                assert await server.wait_acked(type_url, snapshot.of(type_url).version, 10.0)

        await rig.start("a", "b", "c", port=port)
        await push(a=0.2, b=0.2, c=0.3, d=0.3)
        await push(a=0.2, b=0.2, c=0.0, d=0.6)
        await push(a=0.2, b=0.2, d=0.6)
        for name in ("c", "d") * SWAPS:
            await push(a=0.2, b=0.2, **{name: 0.6})
        [node] = server.nodes()
        [clusters] = [t for t in node.types if t.type_url == CLUSTER]
        assert clusters.names == ("a", "b", "d")
    assert set(rig.outcome()) == {("OK", "")}
    assert len({c for c in rig.connections() if c[0] in "ab"}) == 2, "those that stayed are kept"


async def test_what_it_refuses_is_parked_and_shown_until_it_changes(rig: Rig) -> None:
    good = rig.snapshot(a=0.5, b=0.5)
    table = RouteConfiguration(name="table")
    route = table.virtual_hosts.add(name="all", domains=["*"]).routes.add()
    route.match.safe_regex.regex = "("
    route.route.cluster = "a"
    async with rig.serving(good) as server:
        await rig.start("a", "b")
        sent = rig.happened("sent", ROUTE)
        bad = good.replace([Resource.of(table, "table")])
        server.publish(bad)
        assert not await server.wait_acked(ROUTE, bad.of(ROUTE).version, 10.0)
        await rig.reaches("a", "b")
        assert rig.happened("sent", ROUTE) == sent + 1, "sent once, and not again"
        [nack] = [e for e in rig.events if e.kind == "nack"]
        assert "Invalid regex" in nack.detail
        [status] = [t for t in server.nodes()[0].types if t.type_url == ROUTE]
        assert (status.nack, status.nacks) == (nack.detail, 1)
        assert status.acked_version == good.of(ROUTE).version

        better = rig.snapshot(a=0.0, b=1.0)
        server.publish(better)
        assert await server.wait_acked(ROUTE, better.of(ROUTE).version, 10.0)
        await rig.reaches("b")
        assert server.nodes()[0].types[-1].nack == ""
    assert set(rig.outcome()) == {("OK", "")}


async def test_a_killed_server_costs_nothing_and_neither_does_its_return(rig: Rig) -> None:
    split = {"a": 0.4, "b": 0.3, "c": 0.3}
    files = [rig.folder / "operator.json", rig.folder / "plan.json"]
    files[0].write_text(json.dumps(rig.document(*split)))
    files[1].write_text(json.dumps(Plan({"all": split}, {}).to_dict()))
    argv = [sys.executable, str(Path(__file__).with_name("serving.py"))]
    argv += [*map(str, files), str(rig.xds_port)]
    log = rig.folder / "server.log"
    async with ChildProcess("xds", argv, ready_port=rig.xds_port, log=log) as first:
        await rig.start("a", "b", "c")
        first.kill()
        await rig.more(200)
        await rig.reaches("a", "b", "c")
    snapshot = rig.snapshot(**split)
    async with rig.serving(snapshot) as server:
        for type_url in (LISTENER, ROUTE, CLUSTER, ENDPOINT):
            assert await server.wait_acked(type_url, snapshot.of(type_url).version, 20.0)
        await rig.more(100)
        await rig.reaches("a", "b", "c")
        assert len(rig.connections()) == 3, "a cluster was made anew"
        server.publish(rig.snapshot(a=1.0, b=0.0, c=0.0))
        await rig.reaches("a")
    assert set(rig.outcome()) == {("OK", "")}


async def test_a_changed_eds_cluster_is_in_force_at_once(rig: Rig) -> None:
    split = {"a": 0.3, "b": 0.3, "c": 0.4}
    async with rig.serving(rig.snapshot(**split)) as server:
        await rig.start("a", "b", "c")
        document = rig.document(*split)
        document["clusters"][2]["eds_cluster_config"] = {"service_name": "d"}
        document["endpoints"][2] = rig.assignment("d")
        changed = Translator(parse_operator(document)).snapshot(Plan({"all": split}, {}))
        server.publish(changed)
        async with asyncio.timeout(1.0):
            while (await rig.more(1))[0].backend != "d":
                pass
        await rig.reaches("a", "b", "d")
        for type_url in (CLUSTER, ENDPOINT, ROUTE):
            assert await server.wait_acked(type_url, changed.of(type_url).version, 10.0)
    assert set(rig.outcome()) == {("OK", "")}
    assert len({c for c in rig.connections() if c[0] in "ab"}) == 2
