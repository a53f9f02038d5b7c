"""Reads Envoy between two decisions, and lowers at once what cannot wait for the next one.

The plan in force stays what it is, in the journal and in decisions: what `FastGuard` and `Storm`
say is laid over it when it is served, and a restart has forgotten it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.proposal import failing
from eigenmesh.guard.fast import FastGuard
from eigenmesh.mesh import Observation
from eigenmesh.telemetry.source import Source

log = structlog.get_logger(__name__)


class FastLoop:
    """source: read every `interval` seconds. serve: the plan in force again, as it is lowered.
    still: clusters whose limits are not to be moved."""

    def __init__(
        self,
        guard: FastGuard,
        loop: ControlLoop,
        source: Source,
        *,
        interval: float,
        serve: Callable[[], None],
        metrics: Metrics,
        still: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._guard = guard
        self._loop = loop
        self._source = source
        self._interval = interval
        self._serve = serve
        self._metrics = metrics
        self._still = still
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled. What cannot be read changes nothing."""
        while True:
            started = time.monotonic()
            try:
                self.look(await self._source.observe(self._clock()))
            except Exception:
                log.exception("the fast guard failed; it goes on")
            await asyncio.sleep(max(0.05, self._interval - (time.monotonic() - started)))

    def look(self, seen: Observation) -> None:
        """One window. Outside `auto` nothing is lowered, and what was is given back."""
        self._loop.calm(seen)
        self._loop.decider.peaks.update(seen.demands, seen.time, seen.window)
        self._loop.hurry(failing(seen, self._loop.curves))
        if self._loop.mode != "auto":
            if self._guard.limits:
                self._guard.forget()
                self._show({})
                self._serve()
            return
        before = self._guard.limits
        curves = {n: c for n, c in self._loop.curves.items() if n not in self._still}
        after = self._guard.update(seen, curves, self._loop.plan)
        if after == before:
            return
        for name in after.keys() | before.keys():
            old, new = before.get(name), after.get(name)
            if new is not None and (old is None or new < old):
                self._metrics.fast_cuts.labels(name).inc()
        log.warning("fast guard", limits=after, why=self._guard.why(seen.time) or "over")
        self._show(after)
        self._serve()

    def _show(self, limits: dict[str, int]) -> None:
        self._metrics.fast_limit.clear()
        for name, limit in limits.items():
            self._metrics.fast_limit.labels(name).set(limit)

    async def close(self) -> None:
        await self._source.close()
