"""The wall clock, and what happens when somebody sets it.

Decisions carry unix time, and freeze windows mean it. But a plan bakes, a hold lasts and a retry
storm is quiet for so many seconds that went by: were their beginnings left where they are, an hour
back would hold the mesh for an hour, and an hour forward would end everything at once. So a clock
that was set tells by how much, and what is remembered goes along with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

JUMP = 1.0
"""Seconds between two readings by which the clock was set and not slewed (adjtime(3): at most
0.0005 s per second)."""


class Clock:
    """Call it for unix seconds. steady: seconds of a clock that nobody sets."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._apart = wall() - steady()
        self._listeners: list[Callable[[float], None]] = []

    def on_jump(self, listener: Callable[[float], None]) -> None:
        """Told the seconds by which the clock was set, before anyone is told the new time."""
        self._listeners.append(listener)

    def __call__(self) -> float:
        now = self._wall()
        apart = now - self._steady()
        jump, self._apart = apart - self._apart, apart
        if abs(jump) > JUMP:
            log.warning("the clock was set; what is remembered goes along", seconds=round(jump, 1))
            for listener in self._listeners:
                listener(jump)
        return now
