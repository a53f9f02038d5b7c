"""An upstream service of known capacity: `slots` requests at a time, a FIFO queue before them.

    python -m eigenmesh.demo.upstream --port 9001 --slots 8 --service-time 0.02

Service is sleeping, of exponential length, so that three of them fit beside Envoy on two cores.
Slots live in virtual time: a request starts at max(arrival, earliest free slot) and is answered
at start + service. A late timer delays one answer and never the slot, so the capacity is
slots / service_time exactly. Standard library only.

A request may bring its own service demand in units of the mean (`x-demand: 1.234`), so that two
policies can be compared on the same demands. `/_control?slots=6&service_time=0.022` changes the
service while it runs; see `Service.control`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
from collections import deque
from heapq import heappush, heapreplace
from urllib.parse import parse_qsl, urlsplit

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n"
_STATUS = {
    400: b"Bad Request",
    411: b"Length Required",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}

_KNOBS = {"slots", "service_time", "error_rate", "hang", "fail_after", "reset"}


def _plain(status: int) -> bytes:
    return b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\n\r\n" % (status, _STATUS[status])


class Job:
    """One request in the service. start, finish: seconds of the event loop's clock."""

    __slots__ = ("connection", "demand", "finish", "start", "timer")

    def __init__(self, connection: Connection, demand: float) -> None:
        self.connection = connection
        self.demand = demand
        self.start = self.finish = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Service:
    """The slots, the queue before them and the knobs of the experiment."""

    def __init__(self, slots: int, service_time: float, seed: int | None = None) -> None:
        self.slots = slots
        self.service_time = service_time
        self.error_rate = 0.0
        self.hang = False
        self.fail_after: float | None = None
        self.arrived = 0
        self.served = 0
        self._free: list[float] = [0.0] * slots  # heap of the times at which slots fall free
        self._jobs: dict[Job, None] = {}  # in order of arrival
        self._hanging: deque[Connection] = deque()
        self._random = random.Random(seed)
        self._loop = asyncio.get_running_loop()

    def arrive(self, connection: Connection, demand: float | None) -> None:
        self.arrived += 1
        if self.fail_after is not None:
            self._loop.call_later(self.fail_after, connection.answer, _plain(503))
            return
        if self.hang:
            self._hanging.append(connection)
            return
        job = Job(connection, self._random.expovariate(1.0) if demand is None else demand)
        self._jobs[job] = None
        self._place(job, self._loop.time())

    def _place(self, job: Job, now: float) -> None:
        job.start = max(now, self._free[0])
        job.finish = job.start + job.demand * self.service_time
        heapreplace(self._free, job.finish)
        job.timer = self._loop.call_at(job.finish, self._finish, job)

    def _finish(self, job: Job) -> None:
        del self._jobs[job]
        self.served += 1
        failed = self.error_rate > 0.0 and self._random.random() < self.error_rate
        job.connection.answer(_plain(500) if failed else _OK)

    def resize(self, slots: int, service_time: float) -> None:
        """Change the capacity. What is being served goes on; what waits is served anew."""
        now = self._loop.time()
        self.slots, self.service_time = slots, service_time
        running = sorted(job.finish for job in self._jobs if job.start <= now)
        # With fewer slots than running requests the first to finish hand over to nobody.
        self._free = []
        for time in running[-slots:] + [now] * (slots - len(running)):
            heappush(self._free, time)
        for job in self._jobs:
            if job.start > now:
                assert job.timer is not None
                job.timer.cancel()
                self._place(job, now)

    def reset(self) -> int:
        """Answer all that is queued or served with 503 at once; returns how many."""
        dropped = [job.connection for job in self._jobs] + list(self._hanging)
        for job in self._jobs:
            assert job.timer is not None
            job.timer.cancel()
        self._jobs.clear()
        self._hanging.clear()
        self._free = [self._loop.time()] * self.slots
        for connection in dropped:
            connection.answer(_plain(503))
        return len(dropped)

    def control(self, query: str) -> dict[str, float]:
        """Knobs: slots, service_time (s), error_rate (fraction answered with 500), hang (1:
        never answer what arrives from now on), fail_after (s: answer all that arrives with 503 so
        soon, without a slot; empty: no more), reset (1). Raises ValueError on anything else."""
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        knobs = dict(pairs)
        unknown = knobs.keys() - _KNOBS
        if unknown:
            raise ValueError(f"unknown knob: {', '.join(sorted(unknown))}")
        slots = int(knobs.get("slots", self.slots))
        service_time = float(knobs.get("service_time", self.service_time))
        if slots < 1 or not service_time > 0:
            raise ValueError("slots must be 1 or more, service_time above 0")
        self.error_rate = float(knobs.get("error_rate", self.error_rate))
        self.hang = knobs.get("hang", "1" if self.hang else "0") not in ("0", "")
        if (soon := knobs.get("fail_after")) is not None:
            self.fail_after = float(soon) if soon else None
        dropped = self.reset() if knobs.get("reset", "0") not in ("0", "") else 0
        if (slots, service_time) != (self.slots, self.service_time):
            self.resize(slots, service_time)
        return {
            "slots": self.slots,
            "service_time": self.service_time,
            "error_rate": self.error_rate,
            "hang": float(self.hang),
            "arrived": self.arrived,
            "served": self.served,
            "in_flight": len(self._jobs) + len(self._hanging),
            "dropped": dropped,
        }


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, one request at a time (pipelined ones wait)."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport  # asyncio sets TCP_NODELAY on it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._busy:
            self._next()

    def answer(self, response: bytes) -> None:
        self._busy = False
        if self._transport is not None:
            self._transport.write(response)
            if self._buffer:
                self._next()

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        line, *headers = self._buffer[:end].split(b"\r\n")
        demand, length, refused = None, 0, 0
        try:
            path = line.split(b" ")[1]
            for header in headers:
                name, _, value = header.partition(b":")
                match name.lower():
                    case b"x-demand":
                        demand = float(value)
                    case b"content-length":
                        length = int(value)
                    case b"transfer-encoding":
                        refused = 411
        except (ValueError, IndexError):
            refused = 400
        if refused:
            assert self._transport is not None
            self._transport.write(_plain(refused))
            self._transport.close()
            return
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = self._buffer[end + 4 + length :]
        self._busy = True
        if path.startswith(b"/_control"):
            self._control(path.decode())
        else:
            self._service.arrive(self, demand)

    def _control(self, path: str) -> None:
        try:
            status, body = b"200 OK", json.dumps(self._service.control(urlsplit(path).query))
        except ValueError as error:
            status, body = b"400 Bad Request", str(error)
        text = body.encode() + b"\n"
        self.answer(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(text), text))


async def serve(
    port: int,
    slots: int,
    service_time: float,
    seed: int | None = None,
    host: str = "127.0.0.1",
) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    service = Service(slots, service_time, seed)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Connection(service), host, port, backlog=1024)
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="An upstream service of known capacity.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--slots", type=int, default=8, help="requests served at a time")
    parser.add_argument("--service-time", type=float, default=0.02, help="mean, in seconds")
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.slots, args.service_time, args.seed, args.host))


if __name__ == "__main__":
    main()
