"""What the simulated Envoys show to whoever scrapes them, as `telemetry` would have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.scenarios.engine import Engine
from eigenmesh.mesh import Cause, ClusterObservation, Observation

SHOWN = (0.5, 0.9, 0.95, 0.99)
"""Quantiles that a window has."""
_BUCKET = 0.1
"""Width of a histogram's bucket, relative to where it is."""


@dataclass(frozen=True, slots=True)
class _Count:
    came: int = 0
    completed: int = 0
    errors: int = 0
    timeouts: int = 0
    rejected: int = 0
    retries: int = 0
    took: int = 0


class View:
    """A scraper: each has its own windows, from one look to the next. lost: nothing can be read.
    epoch: unix seconds at which the simulation's seconds are 0."""

    def __init__(self, engine: Engine, epoch: float, *, quantiles: bool = True) -> None:
        self.lost = False
        self._engine = engine
        self._epoch = epoch
        self._quantiles = quantiles
        self._last: float | None = engine.now
        self._counts = {name: _Count() for name in engine.meters}
        self._asked = dict.fromkeys(engine.paths, 0)

    async def observe(self, now: float) -> Observation:
        """Since the last look; the first one after a loss only starts the count anew."""
        engine, last = self._engine, self._last
        if self.lost:
            self._last = None
            return self._hole(now, "cannot be read")
        self._last = engine.now
        window = engine.now - last if last is not None else 0.0
        seen = {}
        for name, meter in engine.meters.items():
            before = self._counts[name]
            after = self._counts[name] = _Count(
                meter.came,
                meter.completed,
                meter.errors,
                meter.timeouts,
                meter.rejected,
                meter.retries,
                len(meter.took),
            )
            if window > 0.0:
                seen[name] = self._cluster(name, before, after, window)
        asked = {name: path.asked for name, path in engine.paths.items()}
        demands = {n: (asked[n] - self._asked[n]) / window for n in asked} if window else {}
        self._asked = asked
        if not window:
            return self._hole(now, "first scrape")
        return Observation(self._epoch + engine.now, window, seen, demands, source="simulated")

    async def close(self) -> None: ...

    def _hole(self, now: float, why: str) -> Observation:
        names = [*self._engine.meters, *self._engine.paths]
        return Observation(now, 1.0, {}, {}, dict.fromkeys(names, why), source="simulated")

    def _cluster(
        self, name: str, before: _Count, after: _Count, window: float
    ) -> ClusterObservation:
        meter = self._engine.meters[name]
        took = np.frombuffer(meter.took, dtype=np.float64)[before.took : after.took]
        # Envoy counts whole milliseconds. A copy: a view would keep the array from growing.
        shown = (np.floor(took * 1e3) + 0.5) / 1e3
        del took
        quantiles = {}
        if self._quantiles and shown.size:
            quantiles = dict(zip(SHOWN, np.quantile(shown, SHOWN).tolist(), strict=True))
        errors, timeouts = after.errors - before.errors, after.timeouts - before.timeouts
        causes = {Cause.STATUS: (errors - timeouts) / window, Cause.TIMEOUT: timeouts / window}
        return ClusterObservation(
            load=(after.came - before.came) / window,
            throughput=(after.completed - before.completed) / window,
            mean=float(shown.mean()) if shown.size else None,
            in_flight=float(meter.active),
            quantiles=quantiles,
            upstream_errors=errors / window,
            breaker_errors=(after.rejected - before.rejected) / window,
            retries=(after.retries - before.retries) / window,
            resolutions={q: _BUCKET * value for q, value in quantiles.items()},
            errors={cause: rate for cause, rate in causes.items() if rate > 0.0},
        )
