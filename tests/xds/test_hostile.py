"""Clients that mean harm, or are broken, against a server in a process of its own.

Beside each of them two well-behaved clients must keep getting their updates, and the server's
memory, read from /proc, must stay bounded. Seeds are fixed, so that a failure can be repeated.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from google.protobuf.message import Message
from grpc.aio import EOF  # type: ignore[attr-defined]

from eigenmesh.demo.processes import ChildProcess, free_port
from eigenmesh.xds.resource import CLUSTER, ROUTE
from tests.xds.published import ROUTES, content

from .conformance.driver import TIMEOUT, Client, Variant
from .support import ask_delta, ask_sotw

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
DELTA = f"{ADS}DeltaAggregatedResources"
SOTW = f"{ADS}StreamAggregatedResources"
RDS = "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes"
MIB = 1 << 20
ROUNDS = 1_000

variants = pytest.mark.parametrize(
    "variant", [Variant(delta, aggregated=True) for delta in (True, False)], ids=str
)


class Target:
    """The server's process."""

    def __init__(self, process: ChildProcess, port: int) -> None:
        self.process = process
        self.port = port
        self.value = 0

    def publish(self) -> None:
        """Changes everything that is served."""
        self.value += 1
        self.process.stdin.write(f"{self.value}\n".encode())
        self.process.stdin.flush()

    def memory(self, kind: str) -> float:
        """MiB. VmRSS: now. VmHWM: the most since `forget_peak` (proc(5), status)."""
        for line in self._proc("status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) / 1024
        raise AssertionError(kind)

    def forget_peak(self) -> None:
        self._proc("clear_refs").write_text("5")

    def _proc(self, name: str) -> Path:
        return Path(f"/proc/{self.process.pid}/{name}")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    port = free_port()
    argv = [sys.executable, "-m", "tests.xds.published", str(port)]
    log = tmp_path_factory.mktemp("hostile") / "log"
    root = Path(__file__).parents[2]
    child = ChildProcess("xds", argv, cwd=root, ready_port=port, pipes=True, log=log)
    with child:
        yield Target(child, port)
        assert child.running()
    assert "Traceback" not in log.read_text(), log.read_text()[-4000:]


@asynccontextmanager
async def beside(target: Target, growth: float) -> AsyncIterator[None]:
    """Two clients that follow everything, while something else goes on.

    growth: MiB by which the server's peak may exceed what it had before.
    """
    clients = [Client(target.port, Variant(d, True), f"good-{d}") for d in (True, False)]
    for client in clients:
        for type_url, names in ((CLUSTER, ()), (ROUTE, ROUTES)):
            await client.subscribe(type_url, *names)
            await client.accept(type_url)

    async def beat() -> None:
        target.publish()
        expected = content(str(target.value))
        for client in clients:
            for type_url, names in ((CLUSTER, ("beat",)), (ROUTE, ROUTES)):
                resources = expected.of(type_url).resources
                told = await client.accept(type_url)
                assert told.versions == {name: resources[name].version for name in names}

    over = False

    async def keep_beating() -> None:
        while not over:
            await beat()
            await asyncio.sleep(0.05)

    await beat()
    before = target.memory("VmRSS")
    target.forget_peak()
    beating = asyncio.create_task(keep_beating())
    try:
        yield
    finally:
        over = True
        await beating
    await beat()
    for client in clients:
        await client.quiet(ROUTE)
        await client.close()
    peak = target.memory("VmHWM")
    print(f"{before:.0f} MiB before, {peak:.0f} at most, {target.memory('VmRSS'):.0f} after")
    assert peak - before < growth


@asynccontextmanager
async def stream(target: Target, method: str) -> AsyncIterator[Any]:
    """A stream of bytes, with `write`, `read`, `code` and `details`."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        untyped: Any = channel
        call = untyped.stream_stream(method)(timeout=2 * TIMEOUT)
        yield call
        call.cancel()


async def write_all(call: Any, requests: Iterable[Message | bytes]) -> None:
    """As many as the server takes."""
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for request in requests:
            data = request if isinstance(request, bytes) else request.SerializeToString()
            await call.write(data)


async def read_all(call: Any) -> None:
    with suppress(grpc.aio.AioRpcError):
        while await call.read() is not EOF:
            pass


def named(count: int, start: int = 0) -> list[str]:
    return [f"n{i}" for i in range(start, start + count)]


def names_in(*counts: int) -> Iterator[Message]:
    """Requests for so many more names each."""
    ends = list(accumulate(counts))
    return (ask_delta(ROUTE, *named(n, end - n)) for n, end in zip(counts, ends, strict=True))


def names_of_types(types: int, count: int) -> Iterator[Message]:
    return (ask_delta(f"type-{i}", *named(count)) for i in range(types))


def known_of_types(types: int, count: int) -> Iterator[Message]:
    """A wildcard, so that every version is to be compared."""
    known = dict.fromkeys(named(count), "")
    return (ask_delta(f"type-{i}", "*", known=known) for i in range(types))


def big_node() -> DeltaDiscoveryRequest:
    request: DeltaDiscoveryRequest = ask_delta(CLUSTER)
    for i in range(50_000):
        request.node.metadata.fields[f"key-{i}"].number_value = i
    return request


def node_that_is_no_json() -> DeltaDiscoveryRequest:
    request: DeltaDiscoveryRequest = ask_delta(CLUSTER)
    request.node.metadata.fields["load"].number_value = float("inf")
    return request


# The last request of each passes the limit: gRPC's client forgets why a stream ended when it
# writes on.
@pytest.mark.parametrize(
    ("method", "requests", "words"),
    [
        pytest.param(DELTA, lambda: names_in(60_000, 60_000), "100000 allowed", id="names"),
        pytest.param(SOTW, lambda: [ask_sotw(ROUTE, *named(400_000))], "100000", id="at once"),
        pytest.param(DELTA, lambda: names_of_types(3, 40_000), "100000", id="over types"),
        pytest.param(DELTA, lambda: known_of_types(2, 60_000), "100000", id="versions"),
        pytest.param(DELTA, lambda: names_of_types(33, 1), "32 allowed", id="types"),
        pytest.param(DELTA, lambda: [ask_delta(ROUTE, "n" * MIB)], "1024", id="a long name"),
        pytest.param(DELTA, lambda: [ask_delta("t" * MIB, "n")], "1024", id="a long type"),
        pytest.param(RDS, lambda: [ask_delta("t" * MIB, "n")], "1024", id="a long wrong type"),
        pytest.param(SOTW, lambda: [ask_sotw(CLUSTER, node="n" * MIB)], "node: ", id="a node id"),
        pytest.param(DELTA, lambda: [big_node()], "node: ", id="node metadata"),
        pytest.param(DELTA, lambda: [node_that_is_no_json()], "Infinity", id="no JSON"),
        pytest.param(DELTA, lambda: [b"\xff" * MIB], "are no Delta", id="no request"),
        pytest.param(DELTA, lambda: [b"\x00" * 5 * MIB], "larger than max", id="too large"),
    ],
)
async def test_what_passes_a_limit_ends_its_stream_and_says_why(
    target: Target, method: str, requests: Callable[[], Iterable[Message | bytes]], words: str
) -> None:
    async with beside(target, growth=100), stream(target, method) as call:
        async with asyncio.timeout(TIMEOUT):
            await write_all(call, requests())
            await read_all(call)
        assert words in await call.details()
        # gRPC itself refuses what is too large.
        too_large = grpc.StatusCode.RESOURCE_EXHAUSTED
        code = too_large if "max" in words else grpc.StatusCode.INVALID_ARGUMENT
        assert await call.code() == code


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param(lambda: names_in(*[40_000] * 25), id="a million names"),
        pytest.param(lambda: names_of_types(25, 40_000), id="a million names over types"),
        pytest.param(lambda: known_of_types(25, 40_000), id="a million versions"),
        pytest.param(lambda: names_of_types(5_000, 1), id="five thousand types"),
    ],
)
async def test_who_goes_on_and_on_is_cut_off(
    target: Target, requests: Callable[[], Iterable[Message]]
) -> None:
    async def attack() -> None:
        async with stream(target, DELTA) as call, asyncio.timeout(TIMEOUT):
            reading = asyncio.create_task(read_all(call))
            await write_all(call, requests())
            await reading
            assert await call.code() != grpc.StatusCode.OK

    async with beside(target, growth=200):
        await asyncio.gather(attack(), attack())


@variants
async def test_a_storm_of_stale_nonces_makes_neither_responses_nor_memory(
    target: Target, variant: Variant
) -> None:
    client = Client(target.port, variant, "stale")
    async with beside(target, growth=20):
        await client.subscribe(ROUTE, ROUTES[0])
        told = await client.receive(ROUTE)
        for i in range(2_000):
            nonce = f"{told.nonce}-{i}"
            if variant.delta:
                await client.send(ask_delta(ROUTE, nonce=nonce, error="x" * 1_000))
            else:
                await client.send(ask_sotw(ROUTE, *ROUTES[:9], nonce=nonce, error="x" * 1_000))
        # It is as if nothing had been said: this response is still the one that is unanswered.
        await client.ack(told)
        told = await client.accept(ROUTE)
        assert told.names == ROUTES[:1]
    await client.close()


@variants
async def test_a_storm_of_refusals_comes_to_rest(target: Target, variant: Variant) -> None:
    """Everything is refused, at length, and asked for again at once."""
    client = Client(target.port, variant, "no")
    async with beside(target, growth=12):
        await client.subscribe(ROUTE, *ROUTES)
        for i in range(ROUNDS):
            told = await client.receive(ROUTE)
            await client.nack(told, f"{i} " * 1_000)
            if not variant.delta:
                await client.unsubscribe(ROUTE, *ROUTES)
            await client.subscribe(ROUTE, *ROUTES)
        # Nothing is accepted before it is good.
        while (told := await client.receive(ROUTE)).names != ROUTES:
            await client.nack(told)
        await client.ack(told)
    await client.close()


@pytest.mark.parametrize("seed", range(4))
async def test_malformed_requests_harm_nobody_else(target: Target, seed: int) -> None:
    """Requests of all fields, some with bytes changed, cut off or doubled; ends as it may."""
    rng = random.Random(seed)

    async def attack() -> None:
        method = rng.choice([DELTA, SOTW, RDS])
        async with stream(target, method) as call:
            reading = asyncio.create_task(read_all(call))
            await write_all(call, [mutated(rng, method) for _ in range(rng.randint(1, 9))])
            if rng.random() < 0.5:
                with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.done_writing()
                async with asyncio.timeout(TIMEOUT):
                    await reading
            reading.cancel()

    async with beside(target, growth=40):
        for _ in range(20):
            await asyncio.gather(*(attack() for _ in range(5)))


def mutated(rng: random.Random, method: str) -> bytes:
    """A request of a random kind, whole or damaged."""
    names = [rng.choice([*ROUTES[:5], "*", "", "é" * 9, "x" * 2_000]) for _ in range(4)]
    types = [CLUSTER, ROUTE, "", "no type", "type.googleapis.com/google.protobuf.Any"]
    message: DeltaDiscoveryRequest | DiscoveryRequest
    if method == SOTW:
        message = ask_sotw(rng.choice(types), *names, version=rng.choice(names))
    else:
        known = dict.fromkeys(names, rng.choice(names))
        message = ask_delta(rng.choice(types), *names[:2], unsubscribe=names[2:], known=known)
    message.response_nonce = rng.choice(["", "1", "2", "3", "-1", "\0"])
    message.node.id = rng.choice(["n", "", "\n"])
    if rng.random() < 0.3:
        message.error_detail.code = -1
    data = bytearray(message.SerializeToString())
    if rng.random() < 0.6:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) :]
    return bytes(data * 2 if rng.random() < 0.1 else data)


async def test_streams_that_are_left_leave_nothing(target: Target) -> None:
    async def come_and_go(i: int) -> None:
        async with stream(target, DELTA) as call:
            await write_all(call, [ask_delta(ROUTE, *named(1_000), node=f"{i}")])
            await call.read()

    async with beside(target, growth=60):
        for _ in range(25):
            await asyncio.gather(*(come_and_go(i) for i in range(20)))
