"""The parent's side of `load`: start it, tell it what to send, collect what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenmesh.demo.processes import ChildProcess, ProcessError


@dataclass(frozen=True, slots=True)
class Record:
    """One request of a phase. due: unix seconds at which it was meant to be sent.

    offset: the same, since the phase began. latency: seconds from then to the whole answer, or
    its age when it was given up. status: HTTP's, load.FAILED, load.LATE or load.UNANSWERED.
    overloaded: a circuit breaker of Envoy rejected it.
    """

    phase: str
    route: str
    due: float
    offset: float
    latency: float
    status: int
    overloaded: bool

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Table:
    """Requests as columns, in the order of `offset` (seconds since their phase began)."""

    route: NDArray[np.str_]
    offset: NDArray[np.float64]
    latency: NDArray[np.float64]
    status: NDArray[np.int64]
    overloaded: NDArray[np.bool_]

    @classmethod
    def of(cls, records: list[Record]) -> Table:
        rows = sorted(records, key=lambda r: r.offset)
        return cls(
            np.array([r.route for r in rows], dtype=np.str_),
            np.array([r.offset for r in rows], dtype=np.float64),
            np.array([r.latency for r in rows], dtype=np.float64),
            np.array([r.status for r in rows], dtype=np.int64),
            np.array([r.overloaded for r in rows], dtype=np.bool_),
        )


class LoadGenerator:
    """A running load process against 127.0.0.1:`port`.

    `async with` starts and stops it. `records` grows while it runs; `on_record`, if given, sees
    each record as it comes. `lateness` has, for each quarter second, its end (unix seconds) and the
    mean delay of the sends in it (seconds): how far the machine is from an open loop; `lags`
    all delays (seconds).
    """

    def __init__(
        self,
        port: int,
        *,
        log: Path | None = None,
        on_record: Callable[[Record], None] | None = None,
    ) -> None:
        argv = [sys.executable, "-m", "eigenmesh.demo.load", "--port", str(port)]
        self.process = ChildProcess("load", argv, log=log, pipes=True)
        self.records: list[Record] = []
        self.lateness: list[tuple[float, float]] = []
        self.lags: list[float] = []
        self._on_record = on_record
        self._starts: dict[str, float] = {}
        self._began: dict[str, asyncio.Event] = {}
        self._batches = 0
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LoadGenerator:
        self.process.start()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
        await asyncio.to_thread(self.process.stop, 2.0)

    async def begin(
        self,
        phase: str,
        rates: Mapping[str, float],
        *,
        seed: int,
        host: str = "demo",
        shape: float = 1.0,
    ) -> float:
        """Send `rates` (requests/s by route) from now on, under the name `phase`, which must be
        new; shape: of the gamma distribution of service demands, 1 for the exponential one.
        Returns the unix seconds at which it began."""
        self._began[phase] = asyncio.Event()
        command = {"phase": phase, "rates": dict(rates), "seed": seed, "host": host}
        self._tell({**command, "shape": shape})
        await self._wait(self._began[phase], phase)
        return self._starts[phase]

    async def close(self) -> None:
        """Send nothing more, and record what is unanswered as such."""
        quiet = f"closed-{time.monotonic()}"
        self._began[quiet] = asyncio.Event()
        self._tell({"close": True, "phase": quiet})
        await self._wait(self._began[quiet], "close")

    def table(self, phase: str, start: float = 0.0, end: float = float("inf")) -> Table:
        """The requests of `phase` meant to be sent from `start` up to `end` (seconds since it
        began). Complete once they are all answered, failed (5 s) or closed."""
        return Table.of([r for r in self.records if r.phase == phase and start <= r.offset < end])

    def _tell(self, command: Mapping[str, object]) -> None:
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ProcessError(f"the load generator ended:\n{self.process.log_tail()}") from None

    async def _wait(self, event: asyncio.Event, what: str) -> None:
        try:
            async with asyncio.timeout(10.0):
                await event.wait()
        except TimeoutError:
            raise ProcessError(
                f"the load generator did not begin {what!r}:\n{self.process.log_tail()}"
            ) from None

    async def _read(self) -> None:
        reader = asyncio.StreamReader(limit=2**24)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self.process.stdout
        )
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if "rows" in message:
                    self._take(message["rows"])
                    lags = message["lags"]
                    self.lateness.append((time.time(), sum(lags) / len(lags) if lags else 0.0))
                    self.lags += lags
                else:
                    self._starts[message["phase"]] = message["unix"]
                    self._began[message["phase"]].set()
        finally:
            transport.close()

    def _take(self, rows: list[list[Any]]) -> None:
        for phase, route, offset, latency, status, overloaded in rows:
            due = self._starts[phase] + offset
            record = Record(phase, route, due, offset, latency, status, bool(overloaded))
            self.records.append(record)
            if self._on_record is not None:
                self._on_record(record)
