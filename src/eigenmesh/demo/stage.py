"""What stands on the demo's stage: three upstreams, one Envoy's configuration, one settings file.

The two steered routes share the clusters a, b and c. The reference policies have clusters of
their own over the same upstreams (fixed-a, ..., and `all`), so that they keep Envoy's default
breakers and Eigenmesh's metrics stay clean. Eigenmesh steers and measures none of them, and
must not take the oracle's weights, which stand in the same file, for a hint: it reads only the
steered routes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eigenmesh.demo.oracle import Optimum, Upstream, best_weights
from eigenmesh.demo.processes import free_port
from eigenmesh.mesh.plan import to_integers

ROUTES = ("shop", "search")
UPSTREAMS = (Upstream("a", 8, 0.020), Upstream("b", 4, 0.020), Upstream("c", 2, 0.020))
DEGRADED = (UPSTREAMS[0].degraded(6, 0.022), *UPSTREAMS[1:])
"""The best upstream loses a quarter of its slots, and the others get slower."""

DEMAND = 490.0
"""Requests/s in all: 70% of what the three can serve."""

SLO = 0.1
"""Seconds."""

STEERED = "demo"
FIXED = "fixed-"
"""Prefix of the reference policies' clusters."""

EQUAL = "equal.demo"
ORACLE = "oracle.demo"
ORACLE_DEGRADED = "oracle-degraded.demo"
PROPORTIONAL = "proportional.demo"
LEAST_REQUEST = "least-request.demo"


@dataclass(frozen=True)
class Ports:
    """Where everything listens on 127.0.0.1."""

    envoy: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    xds: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    prometheus: int = field(default_factory=free_port)
    upstreams: Mapping[str, int] = field(
        default_factory=lambda: {u.name: free_port() for u in UPSTREAMS}
    )


def rates(demand: float = DEMAND) -> dict[str, float]:
    """Requests/s by route."""
    return {route: demand / len(ROUTES) for route in ROUTES}


def oracle(degraded: bool = False) -> Optimum:
    return best_weights(DEGRADED if degraded else UPSTREAMS, DEMAND)


def envoy_resources(ports: Ports) -> dict[str, Any]:
    """The operator's `static_resources`, in Envoy's own v3 form."""
    return {"listeners": [_listener(ports)], "clusters": _clusters(ports)}


def static_bootstrap(ports: Ports) -> dict[str, Any]:
    """The stage without Eigenmesh: an Envoy that has everything from its own file."""
    return {
        "node": {"id": "envoy-1", "cluster": "edge"},
        "static_resources": envoy_resources(ports),
    }


def settings(ports: Ports, journal: Path, *, prometheus: bool = False) -> dict[str, Any]:
    """The settings file of the demo, as a document.

    The step limit is wider and the interval shorter than the defaults: a demo has two minutes.
    """
    telemetry: dict[str, Any] = (
        {"prometheus": {"url": f"http://127.0.0.1:{ports.prometheus}", "window": "4s"}}
        if prometheus
        else {"envoy": {"admin": [f"http://127.0.0.1:{ports.admin}"]}}
    )
    return {
        "mesh": "demo",
        "mode": "observe",
        "interval": "2s",
        "xds": {"listen": f"127.0.0.1:{ports.xds}"},
        "api": {"listen": f"127.0.0.1:{ports.api}"},
        "http": {"listen": f"127.0.0.1:{ports.http}"},
        "journal": str(journal),
        "steer": list(ROUTES),
        "node": {"id": "envoy-1", "cluster": "edge", "admin": f"127.0.0.1:{ports.admin}"},
        "telemetry": telemetry,
        "objective": {"slo": SLO},
        "guard": {"max_step": 0.15},
        "envoy": {"static_resources": envoy_resources(ports)},
    }


def _listener(ports: Ports) -> dict[str, Any]:
    equal = {u.name: 1.0 / len(UPSTREAMS) for u in UPSTREAMS}
    total = sum(u.capacity for u in UPSTREAMS)
    references = {
        EQUAL: equal,
        PROPORTIONAL: {u.name: u.capacity / total for u in UPSTREAMS},
        ORACLE: oracle().weights,
        ORACLE_DEGRADED: oracle(degraded=True).weights,
    }
    steered = {
        "name": "demo",
        "domains": ["*"],
        "routes": [_weighted(name, f"/{name}", equal) for name in ROUTES],
    }
    hosts = [
        {
            "name": host,
            "domains": [host],
            "routes": [_weighted(host, "/", {f"{FIXED}{c}": w for c, w in split.items()})],
        }
        for host, split in references.items()
    ]
    least_request = {
        "name": LEAST_REQUEST,
        "domains": [LEAST_REQUEST],
        "routes": [{"name": LEAST_REQUEST, "match": {"prefix": "/"}, "route": {"cluster": "all"}}],
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {"name": "edge", "virtual_hosts": [steered, *hosts, least_request]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    return {
        "name": "edge",
        "address": _address(ports.envoy),
        "filter_chains": [
            {
                "filters": [
                    {"name": "envoy.http_connection_manager", "typed_config": manager},
                ]
            }
        ],
    }


def _weighted(name: str, prefix: str, split: Mapping[str, float]) -> dict[str, Any]:
    clusters = [{"name": c, "weight": weight} for c, weight in to_integers(split).items()]
    return {
        "name": name,
        "match": {"prefix": prefix},
        "route": {"weighted_clusters": {"clusters": clusters}},
    }


def _clusters(ports: Ports) -> list[dict[str, Any]]:
    single = [
        _cluster(f"{prefix}{name}", [port])
        for prefix in ("", FIXED)
        for name, port in ports.upstreams.items()
    ]
    every = _cluster("all", list(ports.upstreams.values())) | {"lb_policy": "LEAST_REQUEST"}
    return [*single, every]


def _cluster(name: str, endpoints: list[int]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(p)}} for p in endpoints]}
            ],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
