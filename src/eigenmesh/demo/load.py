"""Open-loop Poisson load over keep-alive HTTP/1.1 connections, in a process of its own.

    python -m eigenmesh.demo.load --port 10000                     (commanded, see below)
    python -m eigenmesh.demo.load --port 10000 --rate shop=245     (until it is stopped)

Requests are sent when the Poisson process says so, however many are still unanswered, and their
latency counts from that intended time: neither a slow answer nor a late timer hides queueing.
Standard library only. Arrival times and service demands (`x-demand`) depend on the seed alone, so
every policy that is given the same seed meets the same requests.

Commands are JSON lines on stdin, answers are JSON lines on stdout:

    {"phase": "steady", "rates": {"shop": 245, "search": 245}, "seed": 7, "host": "equal.demo"}
        From now on send this; answers to earlier requests still count for their own phase.
        `rates` in requests/s; {} sends nothing. Route `shop` is the path `/shop`. With `shape`,
        service demands are gamma distributed with that shape (1, the default: exponential).
    {"close": true}
        Record everything still unanswered as UNANSWERED, with its age so far.
    {"phase": "steady", "at": 1234.5, "unix": 1700000000.1}
        A phase has begun, at these seconds of the monotonic and of the wall clock.
    {"rows": [[phase, route, intended, latency, status, overloaded], ...], "lags": [0.0004]}
        What was answered since; `intended` in seconds since the phase began, `latency` in
        seconds, `status` HTTP's, or FAILED, UNANSWERED or LATE; `overloaded` 1 if Envoy's breaker
        said `x-envoy-overloaded`. `lags` are the delays of the sends themselves, in seconds.

It ends when stdin ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import resource
import signal
import sys
import time
from collections import deque
from typing import Any

FAILED = 0
"""Status of a request whose connection broke or could not be made."""

UNANSWERED = -1
"""Status of a request that was still unanswered when its accounts were closed."""

LATE = -2
"""Status of a request that had no answer within `Load.patience` seconds."""

BATCH_SECONDS = 0.25


class Request:
    """One request: `due` and `sent` are seconds of the monotonic clock."""

    __slots__ = ("data", "due", "phase", "recorded", "route", "start", "timer")

    def __init__(self, phase: str, start: float, route: str, due: float, data: bytes) -> None:
        self.phase = phase
        self.start = start
        self.route = route
        self.due = due
        self.data = data
        self.recorded = False
        self.timer: asyncio.TimerHandle | None = None


class Client(asyncio.Protocol):
    """One connection; carries one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._request: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: Request) -> None:
        assert self._transport is not None
        self._request = request
        self._transport.write(request.data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            # Envoy gives every answer of this demo a length; anything else is a failure.
            self.close()
            return
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = self._buffer[end + 4 + length :]
        request, self._request = self._request, None
        if request is not None:
            overloaded = b"x-envoy-overloaded" in head
            self._load.record(request, int(head[9:12]), overloaded)
        if b"\r\nconnection: close" in head:
            self.close()
        else:
            self._load.idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._load.lost(self)
        if self._request is not None:
            self._load.record(self._request, FAILED, False)
            self._request = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Load:
    """The generator. patience: seconds after which a request counts as LATE; it is left to its
    connection, since closing that would show up in Envoy as a destroyed upstream connection."""

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", bound: int = 2000, patience: float = 5.0
    ) -> None:
        self._port = port
        self._host = host
        self._bound = bound
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._idle: list[Client] = []
        self._connections = 0
        self._waiting: deque[Request] = deque()
        self._open: set[Request] = set()
        self._rows: list[list[Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._source: asyncio.Task[None] | None = None
        self._lags: list[float] = []

    def command(self, command: dict[str, Any]) -> None:
        if command.get("close"):
            for request in list(self._open):
                self.record(request, UNANSWERED, False)
        if "phase" in command:
            self._begin(command)

    def _begin(self, command: dict[str, Any]) -> None:
        if self._source is not None:
            self._source.cancel()
        self.flush()
        start = time.monotonic()
        print(json.dumps({"phase": command["phase"], "at": start, "unix": time.time()}))
        sys.stdout.flush()
        rates = {route: rate for route, rate in command.get("rates", {}).items() if rate > 0}
        self._source = self._loop.create_task(
            self._send_all(
                command["phase"],
                start,
                rates,
                command.get("host", "demo"),
                command.get("seed", 0),
                command.get("shape", 1.0),
            )
        )

    async def _send_all(
        self, phase: str, start: float, rates: dict[str, float], host: str, seed: int, shape: float
    ) -> None:
        # A random source for each route and purpose: no sequence depends on another one's rate.
        gaps = {route: random.Random(f"{seed}/{route}/gaps") for route in rates}
        demands = {route: random.Random(f"{seed}/{route}/demands") for route in rates}
        due = {route: start + gaps[route].expovariate(rates[route]) for route in rates}
        while due:
            route = min(due, key=due.__getitem__)
            delay = due[route] - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            demand = demands[route].gammavariate(shape, 1.0 / shape)
            data = b"GET /%s HTTP/1.1\r\nhost: %s\r\nx-demand: %.6f\r\n\r\n" % (
                route.encode(),
                host.encode(),
                demand,
            )
            request = Request(phase, start, route, due[route], data)
            self._lags.append(round(max(0.0, time.monotonic() - request.due), 5))
            self._send(request)
            due[route] += gaps[route].expovariate(rates[route])

    def _send(self, request: Request) -> None:
        self._open.add(request)
        request.timer = self._loop.call_at(
            request.due + self._patience, self.record, request, LATE, False
        )
        if self._idle:
            self._idle.pop().send(request)
            return
        self._waiting.append(request)
        if self._connections < self._bound:
            self._connections += 1
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            _, client = await self._loop.create_connection(
                lambda: Client(self), self._host, self._port
            )
        except OSError:
            self._connections -= 1
            if self._waiting:
                self.record(self._waiting.popleft(), FAILED, False)
        else:
            self.idle(client)

    def idle(self, client: Client) -> None:
        """A connection is free: the request that has waited longest takes it."""
        while self._waiting:
            request = self._waiting.popleft()
            if not request.recorded:
                client.send(request)
                return
        self._idle.append(client)

    def lost(self, client: Client) -> None:
        self._connections -= 1
        with contextlib.suppress(ValueError):
            self._idle.remove(client)

    def record(self, request: Request, status: int, overloaded: bool) -> None:
        """Write down what became of a request; only the first time counts."""
        if request.recorded:
            return
        request.recorded = True
        self._open.discard(request)
        if request.timer is not None:
            request.timer.cancel()
        self._rows.append(
            [
                request.phase,
                request.route,
                round(request.due - request.start, 6),
                round(time.monotonic() - request.due, 6),
                status,
                int(overloaded),
            ]
        )

    def flush(self) -> None:
        rows, self._rows = self._rows, []
        lags, self._lags = self._lags, []
        print(json.dumps({"rows": rows, "lags": lags}, separators=(",", ":")))
        sys.stdout.flush()


async def run_alone(host: str, port: int, rates: dict[str, float]) -> None:
    """Sends `rates` until SIGTERM; answers are printed like under command."""
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    load = Load(port, host=host)
    load.command({"phase": "load", "rates": rates, "seed": time.time_ns()})
    while not done.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BATCH_SECONDS):
                await done.wait()
        load.flush()


async def run(port: int) -> None:
    loop = asyncio.get_running_loop()
    load = Load(port)
    done = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)

    async def obey() -> None:
        while line := await commands.readline():
            load.command(json.loads(line))
        done.set()

    async def report() -> None:
        while True:
            await asyncio.sleep(BATCH_SECONDS)
            load.flush()

    tasks = [asyncio.create_task(obey()), asyncio.create_task(report())]
    await done.wait()
    for task in tasks:
        task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description="Open-loop Poisson load.")
    parser.add_argument("--port", type=int, required=True, help="of the proxy")
    parser.add_argument("--host", default="127.0.0.1", help="of the proxy, with --rate")
    parser.add_argument(
        "--rate",
        action="append",
        default=[],
        metavar="ROUTE=REQUESTS/S",
        help="send this without waiting for commands; may be given several times",
    )
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))
    # Nobody reads any more: nothing is left to do.
    with contextlib.suppress(BrokenPipeError):
        if args.rate:
            rates = {route: float(rate) for route, _, rate in (r.partition("=") for r in args.rate)}
            asyncio.run(run_alone(args.host, args.port, rates))
        else:
            asyncio.run(run(args.port))


if __name__ == "__main__":
    main()
