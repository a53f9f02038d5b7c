"""A real Envoy over two slotted upstreams, and requests through it."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, free_port
from eigenmesh.mesh import Cluster, Route, Topology

TOPOLOGY = Topology(
    (Cluster("a"), Cluster("b.svc")), (Route("mixed", ("a", "b.svc")), Route("only-b", ("b.svc",)))
)
ROUTES = {"mixed": ("shop", "mixed"), "only-b": ("shop", "only.b")}
"""One of the clusters and one of the prefixes have a dot, which Envoy takes apart."""

BUCKETS = [1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2500, 10000]


def cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        **more,
    }


def bootstrap(port: int, hosts: list[dict[str, Any]], clusters: list[dict[str, Any]]) -> Any:
    """Envoy's static configuration: one listener, these virtual hosts, these clusters."""
    package = "type.googleapis.com/envoy.extensions.filters"
    router = {"@type": f"{package}.http.router.v3.Router"}
    manager = {
        "@type": f"{package}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {"name": "routes", "virtual_hosts": hosts},
    }
    chain = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        ]
    }
    return {
        "stats_flush_on_admin": True,
        "stats_config": {
            "histogram_bucket_settings": [
                {"match": {"suffix": "upstream_rq_time"}, "buckets": BUCKETS}
            ]
        },
        "static_resources": {
            "listeners": [
                {
                    "name": "http",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [chain],
                }
            ],
            "clusters": clusters,
        },
    }


@dataclass
class Bed:
    """What runs, and where. `answers` counts the responses that clients got, by path and status."""

    port: int
    upstreams: Mapping[str, int]
    envoy: EnvoyProcess
    client: aiohttp.ClientSession
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=dict)

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.envoy.admin_port}"

    async def get(self, path: str) -> int:
        """Status of one request through Envoy; 0 when there was no answer."""
        began = asyncio.get_running_loop().time()
        try:
            async with self.client.get(f"http://127.0.0.1:{self.port}{path}") as response:
                await response.read()
                status = response.status
        except aiohttp.ClientError:
            status = 0
        self.answers[(path, status)] += 1
        took = asyncio.get_running_loop().time() - began
        self.latencies.setdefault(path, []).append(took)
        return status

    async def burst(self, path: str, count: int) -> list[int]:
        return list(await asyncio.gather(*(self.get(path) for _ in range(count))))

    async def control(self, cluster: str, query: str) -> None:
        async with self.client.get(
            f"http://127.0.0.1:{self.upstreams[cluster]}/_control?{query}"
        ) as response:
            assert response.status == 200

    @asynccontextmanager
    async def traffic(self, rates: Mapping[str, float], seed: int = 1) -> AsyncIterator[None]:
        """Open-loop Poisson requests/s by path while the block runs."""
        rng = random.Random(seed)
        pending: set[asyncio.Task[int]] = set()

        async def send(path: str, rate: float) -> None:
            loop = asyncio.get_running_loop()
            due = loop.time()
            while True:
                due += rng.expovariate(rate)
                await asyncio.sleep(max(0.0, due - loop.time()))
                task = asyncio.create_task(self.get(path))
                pending.add(task)
                task.add_done_callback(pending.discard)

        senders = [asyncio.create_task(send(path, rate)) for path, rate in rates.items()]
        try:
            yield
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            await asyncio.gather(*pending)


def _weighted(a: int, b: int) -> dict[str, Any]:
    clusters = [{"name": "a", "weight": a}, {"name": "b.svc", "weight": b}]
    return {"weighted_clusters": {"clusters": clusters}}


HOST: dict[str, Any] = {
    "name": "shop",
    "domains": ["*"],
    "routes": [
        {"match": {"prefix": "/mixed"}, "stat_prefix": "mixed", "route": _weighted(50, 50)},
        {"match": {"prefix": "/b"}, "stat_prefix": "only.b", "route": {"cluster": "b.svc"}},
        {
            "match": {"prefix": "/retried"},
            "stat_prefix": "retried",
            "route": {
                "cluster": "a",
                "retry_policy": {"retry_on": "5xx", "num_retries": 2},
            },
        },
        {
            "match": {"prefix": "/hurried"},
            "stat_prefix": "hurried",
            "route": {"cluster": "a", "timeout": "0.05s"},
        },
        {"match": {"prefix": "/dead"}, "stat_prefix": "dead", "route": {"cluster": "dead"}},
    ],
}


@asynccontextmanager
async def run(
    *,
    slots: int = 8,
    service_time: float = 0.02,
    limits: Mapping[str, int] | None = None,
    concurrency: int = 1,
    version: str | None = None,
) -> AsyncIterator[Bed]:
    """The bed. limits: circuit-breaker thresholds of cluster a. version: of Envoy."""
    port = free_port()
    upstreams = {"a": free_port(), "b.svc": free_port(), "dead": free_port()}
    thresholds = {"circuit_breakers": {"thresholds": [dict(limits)]}} if limits else {}
    config = bootstrap(
        port,
        [HOST],
        [
            cluster("a", upstreams["a"], **thresholds),
            cluster("b.svc", upstreams["b.svc"]),
            cluster("dead", upstreams["dead"]),
        ],
    )
    async with AsyncExitStack() as stack:
        for name, upstream in upstreams.items():
            if name == "dead":
                continue  # nobody listens
            argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(upstream)]
            argv += ["--slots", str(slots), "--service-time", str(service_time), "--seed", "5"]
            await stack.enter_async_context(ChildProcess(name, argv, ready_port=upstream))
        envoy = EnvoyProcess(config, free_port(), concurrency=concurrency, version=version)
        await stack.enter_async_context(envoy)
        connector = aiohttp.TCPConnector(limit=0)
        client = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Bed(port, upstreams, envoy, client)
