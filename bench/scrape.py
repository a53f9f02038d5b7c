"""How long a mesh of 1,000 clusters takes to read, and for how long that holds up the event loop.

    python -m bench.scrape [--clusters 1000] [--repetitions 5] [--results FOLDER]

A real Envoy has the clusters, all of which answer before every tick; a real Prometheus scrapes it.
Read are Envoy's page (all of it, and what the filter leaves), beside `prometheus_client.parser` on
the same page, and whole ticks of both sources. Meanwhile a heartbeat on the event loop notes how
late its timer of a millisecond is; so it does in turn while nothing is read, since the machine has
delays of its own. Writes every single figure to scrape.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, PrometheusProcess, free_port
from eigenmesh.mesh import Cluster, Route, Topology
from eigenmesh.telemetry.aside import aside
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource
from eigenmesh.telemetry.prometheus import PrometheusSource
from eigenmesh.telemetry.source import Source
from tests.telemetry.bed import bootstrap, cluster

RESULTS = Path(__file__).resolve().parent / "results"
BEAT = 0.001
HEADER = "x-cluster"
INTERVAL = 5.0
"""Seconds between two scrapes by Prometheus."""


async def measure(
    read: Callable[[], Awaitable[object]],
    repetitions: int,
    before: Callable[[], Awaitable[object]] | None = None,
) -> dict[str, Any]:
    """Seconds that each reading took, and the longest delay of the heartbeat meanwhile."""
    loop = asyncio.get_running_loop()
    took, late = [], []
    for _ in range(repetitions):
        if before is not None:
            await before()
        worst = 0.0

        async def beat() -> None:
            nonlocal worst
            while True:
                due = loop.time() + BEAT
                await asyncio.sleep(BEAT)
                worst = max(worst, loop.time() - due)

        heart = asyncio.create_task(beat())
        await asyncio.sleep(0.05)
        worst, began = 0.0, time.perf_counter()
        await read()
        took.append(round(time.perf_counter() - began, 5))
        await asyncio.sleep(2 * BEAT)
        heart.cancel()
        with suppress(asyncio.CancelledError):
            await heart
        late.append(round(worst, 5))
    return {"seconds": took, "longest delay of the event loop": late}


async def run(clusters: int, repetitions: int) -> dict[str, Any]:
    names = [f"service-{i:04}.shop.internal" for i in range(clusters)]
    topology = Topology(tuple(Cluster(n) for n in names), (Route("r", tuple(names)),))
    host = {
        "name": "shop",
        "domains": ["*"],
        "routes": [
            {"match": {"prefix": "/"}, "stat_prefix": "r", "route": {"cluster_header": HEADER}},
        ],
    }
    routes = {"r": ("shop", "r")}
    port, upstream = free_port(), free_port()
    config = bootstrap(port, [host], [cluster(name, upstream) for name in names])
    argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(upstream)]
    argv += ["--slots", "1000", "--service-time", "0.02"]
    found: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(ChildProcess("upstream", argv, ready_port=upstream))
        envoy = await stack.enter_async_context(EnvoyProcess(config, free_port()))
        client = await stack.enter_async_context(ClientSession())

        async def get(name: str) -> None:
            async with client.get(f"http://127.0.0.1:{port}/", headers={HEADER: name}) as answer:
                assert await answer.read()

        async def traffic() -> None:
            await asyncio.gather(*map(get, names * 2))

        await traffic()
        admin = f"http://127.0.0.1:{envoy.admin_port}"
        make = partial(EnvoyAdminSource, [admin], topology, routes, timeout=60.0)
        path = make()._path
        pages = {
            "full": await asyncio.to_thread(envoy.admin, "/stats/prometheus"),
            "filtered": await asyncio.to_thread(envoy.admin, path),
        }
        for name, page in pages.items():
            fresh = make()

            async def ours(source: EnvoyAdminSource = fresh, page: str = page) -> None:
                await aside(source._parse, 0.0, page)

            async def theirs(page: str = page) -> None:
                await asyncio.to_thread(lambda: sum(1 for _ in _samples(page)))

            found[f"{name} page, first time"] = await measure(ours, 1)
            found[f"{name} page"] = await measure(ours, repetitions)
            found[f"{name} page, prometheus_client"] = await measure(theirs, repetitions)

        async def ticks(name: str, source: Source, wait: float) -> None:
            """Of the source, and of nothing in turn; each `wait` seconds behind some traffic."""

            async def settle() -> None:
                await traffic()
                await asyncio.sleep(wait)

            async def tick() -> None:
                assert (await source.observe(time.time())).complete

            async def nothing() -> None:
                await asyncio.sleep(0.2)

            async with asyncio.timeout(20 * INTERVAL):
                while not (await source.observe(time.time())).clusters:
                    await asyncio.sleep(wait)
            for _ in range(repetitions):
                for what, read in ((f"{name}, whole tick", tick), (f"{name}, nothing", nothing)):
                    for figure, values in (await measure(read, 1, settle)).items():
                        found.setdefault(what, {}).setdefault(figure, []).extend(values)

        direct = make()
        await ticks("direct scrape", direct, 0.1)
        await direct.close()
        target = f"127.0.0.1:{envoy.admin_port}"
        store = PrometheusProcess([target], free_port(), interval=INTERVAL)
        await stack.enter_async_context(store)
        source = PrometheusSource([store.url], topology, routes, window=4 * INTERVAL, timeout=60.0)
        await ticks("Prometheus", source, 1.5 * INTERVAL)
        answer = await source._api.query(source.query, time.time())
        await source.close()
    sizes = {f"{name} page": len(page) for name, page in pages.items()}
    sizes["Prometheus' answer"] = len(answer.body)
    return {"clusters": clusters, "bytes": sizes, "read": found}


def _samples(page: str) -> Iterator[object]:
    for family in text_string_to_metric_families(page):
        yield from family.samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    results = asyncio.run(run(args.clusters, args.repetitions))
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "scrape.json").write_text(json.dumps(results, indent=2) + "\n")
    for name, size in results["bytes"].items():
        print(f"{name:38} {size / 1e6:10.2f} MB")
    print(f"{'':38} {'median s':>10} {'worst delay of the loop s':>26}")
    for name, one in results["read"].items():
        late = max(one["longest delay of the event loop"])
        print(f"{name:38} {statistics.median(one['seconds']):10.4f} {late:26.4f}")


if __name__ == "__main__":
    main()
