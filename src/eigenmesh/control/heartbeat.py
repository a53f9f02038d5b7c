"""Watches whether anything blocks the event loop that serves xDS."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from eigenmesh.control.metrics import Metrics

PERIOD = 0.02


@dataclass
class Heartbeat:
    """Every 20 ms: how late was the timer, and how much CPU did the loop's thread use meanwhile?

    Lateness includes the wait for a core on a busy machine; the CPU time is what the loop itself
    was blocked by, so the two tell a solve on the loop from a crowded machine. Seconds.
    """

    metrics: Metrics
    worst_lag: float = 0.0
    worst_busy: float = 0.0

    async def run(self) -> None:
        while True:
            due, cpu = time.monotonic() + PERIOD, time.thread_time()
            await asyncio.sleep(PERIOD)
            lag = max(0.0, time.monotonic() - due)
            busy = time.thread_time() - cpu
            self.metrics.loop_lag.observe(lag)
            self.metrics.loop_busy.observe(busy)
            self.worst_lag = max(self.worst_lag, lag)
            self.worst_busy = max(self.worst_busy, busy)
