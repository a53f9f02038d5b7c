"""The breaker model against a real Envoy: blocked fractions at five loads, three limits.

    make bench-breaker-model

One Envoy, one upstream for each protocol with c slots of exponential (sleeping) service, open-loop
arrivals: Poisson, and a Poisson process whose rate jumps between two values (MMPP). HTTP/2 reaches
its upstream over a second listener of the same Envoy, which speaks HTTP/1.1 behind it.

Every request brings its own service demand, and the same arrivals and demands also go through an
ideal queue cut off at the limit. What Envoy blocks less what the ideal queue blocks has far less
chance in it than either: added to the exact chain's value it says what Envoy blocks in the long
run ("Envoy, long run"). That is what the model is held against.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.breakers import model_report
from eigenmesh.demo.load import FAILED, Load, Request
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, free_port
from eigenmesh.mesh import Burstiness, blocked_fraction
from tests.mesh.chain import Chain
from tests.telemetry.bed import bootstrap, cluster

RESULTS = Path(__file__).parents[1] / "results"
SLOTS, T0 = 8, 0.04
CAPACITY = SLOTS / T0
LOADS = (0.5, 0.8, 1.0, 1.2, 1.5)
LIMITS = (SLOTS + 2, 2 * SLOTS, 4 * SLOTS)
PROTOCOLS = ("http1", "http2")
ARRIVALS = {"poisson": Burstiness(), "mmpp": Burstiness(swing=0.5, lasts=0.25)}
_BATCHES = 10
_HTTP2 = {
    "typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
}
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Cell:
    """One measurement. load: over the capacity. All others are fractions of the requests: blocked
    by Envoy, by an ideal queue that met the same requests, by the exact chain and by the model;
    error: standard error of Envoy's less the ideal queue's. requests: how many."""

    protocol: str
    arrivals: str
    load: float
    limit: int
    requests: int
    envoy: float
    ideal: float
    exact: float
    model: float
    error: float

    @property
    def long_run(self) -> float:
        return self.envoy + self.exact - self.ideal

    @property
    def off(self) -> float:
        return self.model - self.long_run


class Player(Load):
    """Sends requests at given times, and keeps what became of each."""

    async def play(self, route: str, due: Floats, demands: Floats) -> Bools:
        """Which were blocked. Raises RuntimeError if any failed otherwise."""
        start = self._loop.time()
        for offset, demand in zip(due, demands, strict=True):
            delay = start + offset - self._loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            data = f"GET /{route} HTTP/1.1\r\nhost: x\r\nx-demand: {demand:.6f}\r\n\r\n"
            self._send(Request(route, start, route, start + offset, data.encode()))
        while self._open:
            await asyncio.sleep(0.05)
        rows, self._rows = sorted(self._rows, key=lambda row: float(row[2])), []
        blocked = np.array([bool(row[5]) for row in rows])
        failed = sum(row[4] != 200 and not row[5] for row in rows)
        if failed:
            raise RuntimeError(f"{failed} of {len(rows)} requests failed otherwise ({FAILED=})")
        return blocked


@dataclass(frozen=True)
class Rig:
    port: int
    envoy: EnvoyProcess
    players: dict[str, Player]

    async def limit(self, **limits: int) -> None:
        """Set circuit-breaker thresholds of both clusters, by the runtime, without a drain."""
        keys = "&".join(
            f"circuit_breakers.{protocol}.default.{name}={value}"
            for protocol in PROTOCOLS
            for name, value in limits.items()
        )
        await asyncio.to_thread(self.envoy.admin, f"/runtime_modify?{keys}", method="POST")


@asynccontextmanager
async def rig(concurrency: int = 1) -> AsyncIterator[Rig]:
    front, inner = free_port(), free_port()
    upstreams = {protocol: free_port() for protocol in PROTOCOLS}
    routes = [{"match": {"prefix": f"/{p}"}, "route": {"cluster": p}} for p in PROTOCOLS]
    behind = [{"match": {"prefix": "/"}, "route": {"cluster": "behind"}}]
    wide = {"thresholds": [dict.fromkeys(("max_connections", "max_pending_requests"), 10**6)]}
    wide["thresholds"][0]["max_requests"] = 10**6
    config = bootstrap(
        front,
        [{"name": "all", "domains": ["*"], "routes": routes}],
        [
            cluster("http1", upstreams["http1"]),
            cluster("http2", inner, **_HTTP2),
            cluster("behind", upstreams["http2"], circuit_breakers=wide),
        ],
    )
    second = bootstrap(inner, [{"name": "all", "domains": ["*"], "routes": behind}], [])
    listener = second["static_resources"]["listeners"][0]
    config["static_resources"]["listeners"].append(listener | {"name": "inner"})
    config["layered_runtime"] = {"layers": [{"name": "admin", "admin_layer": {}}]}
    async with AsyncExitStack() as stack:
        for protocol, port in upstreams.items():
            argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
            argv += ["--slots", str(SLOTS), "--service-time", str(T0)]
            await stack.enter_async_context(ChildProcess(protocol, argv, ready_port=port))
        envoy = EnvoyProcess(config, free_port(), concurrency=concurrency)
        await stack.enter_async_context(envoy)
        yield Rig(front, envoy, {protocol: Player(front) for protocol in PROTOCOLS})


def arrivals(load: float, bursty: Burstiness, seconds: float, seed: int) -> Floats:
    """Times of arrival in seconds: Poisson, at a rate that jumps between two values."""
    random = np.random.default_rng(seed)
    most = load * (1.0 + bursty.swing)
    due = np.cumsum(random.exponential(1.0 / most, size=int(2 * most * seconds) + 100))
    jumps = np.cumsum(random.exponential(2.0 * bursty.lasts, size=int(seconds / bursty.lasts) + 99))
    high = (np.searchsorted(jumps, due) + random.integers(2)) % 2 == 0
    # Thinned: a share of the arrivals at the higher rate is none at the lower one.
    kept = high | (random.random(due.size) * most < load * (1.0 - bursty.swing))
    out: Floats = due[kept & (due < seconds)]
    return out


def ideal(due: Floats, demands: Floats, limit: int) -> Bools:
    """Which of these requests a queue of SLOTS, cut off at `limit`, blocks."""
    blocked = np.zeros(due.size, dtype=bool)
    free, ends = [0.0] * SLOTS, list[float]()
    for i, (now, demand) in enumerate(zip(due, demands, strict=True)):
        while ends and ends[0] <= now:
            heappop(ends)
        if len(ends) >= limit:
            blocked[i] = True
            continue
        end = max(now, heappop(free)) + demand * T0
        heappush(free, end)
        heappush(ends, end)
    return blocked


async def measure(
    rig: Rig, kind: str, load: float, limit: int, seconds: float, seed: int
) -> list[Cell]:
    """A cell for each protocol, measured at once on the same requests."""
    bursty = ARRIVALS[kind]
    due = arrivals(load * CAPACITY, bursty, seconds, seed)
    demands = np.round(np.random.default_rng(seed + 1).exponential(size=due.size), 6)
    await rig.limit(max_requests=limit, max_connections=10_000, max_pending_requests=10_000)
    results = await asyncio.gather(
        *(player.play(protocol, due, demands) for protocol, player in rig.players.items())
    )
    alone = ideal(due, demands, limit)
    exact = Chain(load * CAPACITY, SLOTS, T0, limit, bursty.swing, bursty.lasts).blocked
    model = float(blocked_fraction(load * CAPACITY, T0, CAPACITY, limit, bursty))
    cells = []
    for protocol, blocked in zip(rig.players, results, strict=True):
        apart = np.array_split(blocked.astype(float) - alone, _BATCHES)
        error = float(np.std([part.mean() for part in apart], ddof=1) / _BATCHES**0.5)
        shares = (float(blocked.mean()), float(alone.mean()), exact, model, error)
        cells.append(Cell(protocol, kind, load, limit, int(due.size), *shares))
    return cells


async def run(
    seconds: float,
    kinds: Sequence[str] = tuple(ARRIVALS),
    loads: Sequence[float] = LOADS,
    limits: Sequence[int] = LIMITS,
) -> list[Cell]:
    cells: list[Cell] = []
    async with rig() as envoy:
        await measure(envoy, "poisson", 0.5, 64, 1.0, 0)  # opens connections
        for kind in kinds:
            for load in loads:
                for limit in limits:
                    cells += await measure(envoy, kind, load, limit, seconds, 7 + len(cells))
                    print(f"{kind} {load} {limit}: {cells[-2].off:+.4f} {cells[-1].off:+.4f}")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    cells = asyncio.run(run(args.seconds))
    args.results.mkdir(parents=True, exist_ok=True)
    raw: dict[str, Any] = {
        "slots": SLOTS,
        "t0": T0,
        "seconds": args.seconds,
        "arrivals": {kind: asdict(bursty) for kind, bursty in ARRIVALS.items()},
        "cells": [asdict(cell) for cell in cells],
    }
    (args.results / "breaker_model.json").write_text(json.dumps(raw, indent=1) + "\n")
    (args.results / "breaker_model.md").write_text(model_report.table(cells))
    model_report.plot(cells, args.results.parents[1] / "docs" / "pictures" / "breaker_model.svg")


if __name__ == "__main__":
    main()
