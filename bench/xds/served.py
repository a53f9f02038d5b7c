"""What both servers of the bench tell about a push."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

TICK = 0.002


class Ticker:
    """Wakes every two milliseconds, and notes by how much it was late at worst (seconds)."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self.worst = max(self.worst, time.monotonic() - due)

    async def stop(self) -> float:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        return self.worst


class Pushes:
    """Times a push, from before the change is made until `expected` ACKs are counted.

    prepare: gives what the n-th change is about; not timed. change: makes of it what is to be
    pushed. send: pushes that. None of them waits.
    """

    def __init__(
        self,
        prepare: Callable[[int], Any],
        change: Callable[[Any], Any],
        send: Callable[[Any], None],
    ) -> None:
        self._prepare, self._change, self._send = prepare, change, send
        self._number = 0
        self._acks = self._expected = 0
        self._last_ack = self._started = self._cpu = 0.0
        self._complete = asyncio.Event()
        self._ticker: Ticker | None = None

    def acked(self) -> None:
        """To be called at every ACK of a route table."""
        self._acks += 1
        self._last_ack = time.monotonic()
        if self._acks >= self._expected:
            self._complete.set()

    async def push(self, *, expected: int) -> dict[str, float]:
        """started: monotonic. change, send: seconds that the event loop was busy with them."""
        self._acks, self._expected = 0, expected
        self._complete.clear()
        self._ticker = Ticker()
        self._number += 1
        about = self._prepare(self._number)
        # The ticker's wait begins before the push, so that the push itself is seen.
        await asyncio.sleep(TICK)
        self._ticker.worst = 0.0
        self._cpu = time.process_time()
        self._started = time.monotonic()
        made = self._change(about)
        changed = time.monotonic()
        self._send(made)
        sent = time.monotonic()
        return {
            "started": self._started,
            "change": changed - self._started,
            "send": sent - changed,
        }

    async def settle(self, *, within: float) -> dict[str, float]:
        """cpu: seconds of all threads, from the change to the last ACK. last_ack: seconds after
        the change. worst_lag: of the event loop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._complete.wait(), within)
        assert self._ticker is not None
        return {
            "acks": self._acks,
            "last_ack": self._last_ack - self._started,
            "cpu": time.process_time() - self._cpu,
            "worst_lag": await self._ticker.stop(),
        }
