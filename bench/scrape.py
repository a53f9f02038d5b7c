"""How long a mesh of 1,000 clusters takes to read, and for how long that holds up the event loop.

    python -m bench.scrape [--clusters 1000] [--repetitions 5] [--results FOLDER]

A real Envoy has the clusters, a real Prometheus scrapes it. Read are Envoy's page (all of it, and
what the filter leaves) and Prometheus' answer, beside `prometheus_client.parser` on the same page.
While each is read in its thread, a heartbeat on the event loop notes how late its timer of a
millisecond is. Writes every single figure to scrape.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from eigenmesh.demo.processes import EnvoyProcess, PrometheusProcess, free_port
from eigenmesh.mesh import Cluster, Route, Topology
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource
from eigenmesh.telemetry.prometheus import PrometheusSource
from tests.telemetry.bed import bootstrap, cluster

RESULTS = Path(__file__).resolve().parent / "results"
BEAT = 0.001
INTERVAL = 5.0
"""Seconds between two scrapes by Prometheus."""


async def measure(read: Callable[[], Awaitable[object]], repetitions: int) -> dict[str, Any]:
    """Seconds that each reading took, and the longest delay of the heartbeat meanwhile."""
    loop = asyncio.get_running_loop()
    took, late = [], []
    for _ in range(repetitions):
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
            {"match": {"prefix": "/"}, "stat_prefix": "r", "route": {"cluster": names[0]}},
        ],
    }
    routes = {"r": ("shop", "r")}
    config = bootstrap(free_port(), [host], [cluster(name, 9) for name in names])
    found: dict[str, Any] = {}
    async with EnvoyProcess(config, free_port()) as envoy:
        admin = f"http://127.0.0.1:{envoy.admin_port}"
        direct = EnvoyAdminSource([admin], topology, routes, timeout=60.0)
        pages = {
            "full": await asyncio.to_thread(envoy.admin, "/stats/prometheus"),
            "filtered": await asyncio.to_thread(envoy.admin, direct._path),
        }
        for name, page in pages.items():
            fresh = EnvoyAdminSource([admin], topology, routes)

            async def ours(source: EnvoyAdminSource = fresh, page: str = page) -> None:
                await asyncio.to_thread(source._parse, 0.0, page)

            async def theirs(page: str = page) -> None:
                await asyncio.to_thread(lambda: sum(1 for _ in _samples(page)))

            found[f"{name} page, first time"] = await measure(ours, 1)
            found[f"{name} page"] = await measure(ours, repetitions)
            found[f"{name} page, prometheus_client"] = await measure(theirs, repetitions)
        await direct.observe(0.0)
        found["direct scrape, whole tick"] = await measure(lambda: direct.observe(0.0), repetitions)
        await direct.close()
        target = f"127.0.0.1:{envoy.admin_port}"
        async with PrometheusProcess([target], free_port(), interval=INTERVAL) as store:
            source = PrometheusSource(
                [store.url], topology, routes, window=4 * INTERVAL, timeout=60.0
            )
            async with asyncio.timeout(20 * INTERVAL):
                while not (await source.observe(time.time())).clusters:
                    await asyncio.sleep(INTERVAL)
            answer = await source._api.query(source.query, time.time())
            found["Prometheus, whole tick"] = await measure(
                lambda: source.observe(time.time()), repetitions
            )
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
