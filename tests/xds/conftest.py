"""Real Envoys, three upstreams and a load, for the tests of the xDS server."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, free_port
from eigenmesh.xds.bootstrap import bootstrap
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.operator import OperatorConfig, parse_operator
from eigenmesh.xds.options import ServerOptions
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.translate import Translator
from tests.envoys import EMBEDDED, OLDER

VARIANTS = ("delta", "sotw")
# Both on the embedded Envoy; older ones take turns, which is half the time.
ENVOYS = [(EMBEDDED, variant) for variant in VARIANTS]
ENVOYS += [(version, VARIANTS[i % 2]) for i, version in enumerate(OLDER)]

NAMES = ("a", "b", "c")
ROUTES = ("shop", "search")
MANAGER = (
    "type.googleapis.com/"
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def endpoints(name: str, port: int) -> dict[str, Any]:
    lb_endpoints = [{"endpoint": {"address": socket(port)}}]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": lb_endpoints}]}


def operator_document(
    listen: int, upstreams: Mapping[str, int], eds: tuple[str, ...] = ("c",)
) -> dict[str, Any]:
    """Two routes over a and b (static) and the clusters `eds`."""
    names = ("a", "b", *eds)
    routes = [
        {
            "name": route,
            "match": {"prefix": f"/{route}"},
            "route": {"weighted_clusters": {"clusters": [{"name": n, "weight": 1} for n in names]}},
        }
        for route in ROUTES
    ]
    manager = {
        "@type": MANAGER,
        "stat_prefix": "ingress",
        "route_config": {
            "name": "edge",
            "virtual_hosts": [{"name": "demo", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    clusters: list[dict[str, Any]] = [
        {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": endpoints(name, upstreams[name]),
        }
        for name in ("a", "b")
    ]
    clusters += [{"name": name, "type": "EDS", "connect_timeout": "1s"} for name in eds]
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "edge",
                    "address": socket(listen),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": clusters,
        },
        "endpoints": [endpoints(name, upstreams[name]) for name in eds],
    }


@dataclass
class Rig:
    """Everything but the xDS server, which a test runs itself, on `xds_port`."""

    folder: Path
    version: str
    delta: bool
    xds_port: int
    listen: int
    upstreams: Mapping[str, int]
    document: dict[str, Any]
    envoy: EnvoyProcess
    load: LoadGenerator
    events: list[XdsEvent] = field(default_factory=list)

    def declare(self, *eds: str) -> None:
        """From now on the operator has these EDS clusters, beside a and b."""
        self.document = operator_document(self.listen, self.upstreams, eds)

    @property
    def config(self) -> OperatorConfig:
        return parse_operator(self.document)

    def translator(self) -> Translator:
        return Translator(self.config)

    def server(self, options: ServerOptions | None = None) -> XdsServer:
        return XdsServer(f"127.0.0.1:{self.xds_port}", options=options, on_event=self.events.append)

    def happened(self, kind: str, type_url: str) -> int:
        return sum(1 for e in self.events if (e.kind, e.type_url) == (kind, type_url))

    async def start(self, rate: float = 0.0) -> None:
        """Envoy with what the server serves, and requests/s on every route."""
        self.envoy.start()
        await self.envoy.ready()
        if rate:
            await self.load.begin("run", dict.fromkeys(ROUTES, rate), seed=1)

    async def answers(self) -> Counter[int]:
        """What became of the load, by status, once it is over."""
        await self.load.begin("over", {}, seed=1)
        await asyncio.sleep(0.5)  # the last ones are answered in milliseconds
        await self.load.close()
        return Counter(self.load.table("run").status.tolist())

    def counters(self) -> dict[str, int]:
        """What must not move when weights or limits do."""
        pattern = (
            r"^cluster\.[abc]\.upstream_cx_(destroy|connect_fail|overflow)$"
            r"|cluster_manager\.cluster_(added|modified|removed|updated)$"
            r"|listener_manager\.(listener_(added|modified|removed)|total_listeners_draining)$"
        )
        return self.envoy.stats(pattern)

    def weights(self) -> dict[str, dict[str, int]]:
        """Those that Envoy says are in force."""
        dump = json.loads(self.envoy.admin("/config_dump?resource=dynamic_route_configs"))
        [config] = dump["configs"]
        [host] = config["route_config"]["virtual_hosts"]
        return {
            route["name"]: {
                c["name"]: c["weight"] for c in route["route"]["weighted_clusters"]["clusters"]
            }
            for route in host["routes"]
        }

    def clusters(self) -> set[str]:
        """Those that it was served."""
        dump = json.loads(self.envoy.admin("/config_dump?resource=dynamic_active_clusters"))
        return {config["cluster"]["name"] for config in dump["configs"]}

    def max_requests(self, cluster: str) -> set[int]:
        """Of both priorities; /clusters shows what is in force, the runtime included."""
        return self._limits(cluster, "max_requests")

    def max_retries(self, cluster: str) -> set[int]:
        """Likewise; of a retry budget what it comes to now."""
        return self._limits(cluster, "max_retries")

    def _limits(self, cluster: str, name: str) -> set[int]:
        text = self.envoy.admin("/clusters")
        found = re.findall(rf"^{cluster}::\w+_priority::{name}::(\d+)$", text, re.M)
        return {int(value) for value in found}


@pytest.fixture(params=ENVOYS, ids="-".join)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    listen, admin, xds = free_port(), free_port(), free_port()
    upstreams = {name: free_port() for name in NAMES}
    version, variant = request.param
    delta = variant == "delta"
    start = bootstrap(
        node_id="envoy-1",
        node_cluster="edge",
        xds_address=f"127.0.0.1:{xds}",
        admin_address=f"127.0.0.1:{admin}",
        runtime_layer="eigenmesh",
        delta=delta,
    )
    async with AsyncExitStack() as cleanup:
        for name, port in upstreams.items():
            argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
            argv += ["--slots", "64", "--service-time", "0.004"]
            await cleanup.enter_async_context(
                ChildProcess(f"upstream-{name}", argv, ready_port=port)
            )
        envoy = EnvoyProcess(start, admin, log=tmp_path / "envoy.log", version=version)
        cleanup.callback(envoy.stop)
        load = await cleanup.enter_async_context(LoadGenerator(listen))
        upstreams["d"] = upstreams["c"]
        document = operator_document(listen, upstreams)
        yield Rig(tmp_path, version, delta, xds, listen, upstreams, document, envoy, load)
