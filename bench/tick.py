"""What recording rules save a tick in a fleet, and what they cost Prometheus.

    python -m bench.tick [--clusters 50] [--proxies 10] [--repetitions 10] [--results FOLDER]

A real Prometheus scrapes one real Envoy as if it were so many (by labels), every second, with the
rules of deploy/prometheus/tick.yml. Whole ticks are read in turn from the proxies' own series and
from what is recorded of them. Writes every single figure to tick.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, PrometheusProcess, free_port
from eigenmesh.mesh import Cluster, Route, Topology
from eigenmesh.telemetry.prometheus import PrometheusSource
from tests.telemetry.bed import bootstrap, cluster

RESULTS = Path(__file__).resolve().parent / "results"
RULES = Path(__file__).resolve().parents[1] / "deploy/prometheus/tick.yml"
HEADER = "x-cluster"
SELECTORS = {"series of every proxy": 'job="envoy"', "recorded series": 'job="eigenmesh-tick"'}


async def run(clusters: int, proxies: int, repetitions: int) -> dict[str, Any]:
    names = [f"service-{i:03}" for i in range(clusters)]
    topology = Topology(tuple(Cluster(n) for n in names), (Route("r", tuple(names)),))
    route = {"match": {"prefix": "/"}, "stat_prefix": "r", "route": {"cluster_header": HEADER}}
    port, upstream = free_port(), free_port()
    host = {"name": "shop", "domains": ["*"], "routes": [route]}
    config = bootstrap(port, [host], [cluster(name, upstream) for name in names])
    argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(upstream)]
    argv += ["--slots", "1000", "--service-time", "0.02"]
    found: dict[str, Any] = {name: {"seconds": [], "bytes": []} for name in SELECTORS}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(ChildProcess("upstream", argv, ready_port=upstream))
        envoy = await stack.enter_async_context(EnvoyProcess(config, free_port()))
        client = await stack.enter_async_context(ClientSession())
        store = PrometheusProcess([], free_port())
        target = f"127.0.0.1:{envoy.admin_port}"
        settings: Any = store._config
        settings["rule_files"] = [str(RULES)]
        [job] = settings["scrape_configs"]
        job["static_configs"] = [
            {"targets": [target], "labels": {"mesh": "demo", "node": f"envoy-{n}"}}
            for n in range(proxies)
        ]
        await stack.enter_async_context(store)
        sources = {
            name: PrometheusSource(
                [store.url], topology, {"r": ("shop", "r")}, timeout=30.0, selector=selector
            )
            for name, selector in SELECTORS.items()
        }
        done = 0
        while done < repetitions:
            for name in names:
                async with client.get(f"http://127.0.0.1:{port}/", headers={HEADER: name}) as got:
                    await got.read()
            await asyncio.sleep(1.0)
            turn = {}
            for name, source in sources.items():
                began = time.perf_counter()
                seen = await source.observe(time.time())
                turn[name] = time.perf_counter() - began if seen.complete else None
            if None in turn.values():
                continue  # too few scrapes yet
            done += 1
            for name, seconds in turn.items():
                found[name]["seconds"].append(seconds)
                answer = await sources[name]._api.query(sources[name].query, time.time())
                found[name]["bytes"].append(len(answer.body))
        for source in sources.values():
            await source.close()
        async with client.get(f"{store.url}/metrics") as page:
            lines = (await page.text()).splitlines()
    [cost] = [
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("prometheus_rule_group_last_duration_seconds{")
    ]
    return {
        "clusters": clusters,
        "proxies": proxies,
        "ticks": found,
        "seconds of one evaluation of the rules": cost,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=50)
    parser.add_argument("--proxies", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    results = asyncio.run(run(args.clusters, args.proxies, args.repetitions))
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "tick.json").write_text(json.dumps(results, indent=2) + "\n")
    for name, one in results["ticks"].items():
        seconds, size = statistics.median(one["seconds"]), statistics.median(one["bytes"])
        print(f"{name:24} {seconds:8.3f} s {size / 1e6:8.2f} MB")
    print(f"rules, each second       {results['seconds of one evaluation of the rules']:8.3f} s")


if __name__ == "__main__":
    main()
