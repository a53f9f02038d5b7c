"""A scenario on a real Envoy: its bootstrap and Eigenmesh's settings for one policy. Pure.

All policies have the same configuration but for what they are named after. Weights are moved by the
runtime: by Envoy's admin layer for the baselines, by the layer that Eigenmesh serves for its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

from bench.scenarios.model import Path, Scenario
from bench.scenarios.parts import Steering
from eigenmesh.demo.processes import free_port
from eigenmesh.mesh import Plan
from eigenmesh.mesh.plan import to_integers
from eigenmesh.xds.bootstrap import beside_another, bootstrap

HOST = "edge"
_TYPES = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True)
class Ports:
    """Where the processes of one policy listen on 127.0.0.1."""

    upstreams: Mapping[str, int]
    envoy: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    xds: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)


def envoy(scenario: Scenario, ports: Ports, first: Steering, *, steered: bool) -> dict[str, Any]:
    """The bootstrap. steered: it joins an Eigenmesh. first: what it begins with."""
    # The statistics are what `eigenmesh bootstrap` advises, for everybody: nobody reads worse.
    joined = beside_another(
        bootstrap(
            node_id="envoy-1",
            node_cluster="edge",
            xds_address=f"127.0.0.1:{ports.xds}",
            admin_address=f"127.0.0.1:{ports.admin}",
            runtime_layer="eigenmesh",
        )
    )
    layers: list[Any] = [{"name": "admin", "admin_layer": {}}]
    static = resources(scenario, ports, first)
    if steered:
        layers += joined["layered_runtime"]["layers"]
        static["clusters"] += joined["static_resources"]["clusters"]
    return {
        "node": {"id": "envoy-1", "cluster": "edge"},
        "stats_flush_on_admin": joined["stats_flush_on_admin"],
        "stats_config": joined["stats_config"],
        "layered_runtime": {"layers": layers},
        "static_resources": static,
    }


def settings(scenario: Scenario, ports: Ports, folder: File) -> dict[str, Any]:
    """The settings file of Eigenmesh, which is told no capacity."""
    first = Steering(Plan.equal(scenario.topology))
    return {
        "mode": "auto",
        "overlay": True,
        "xds": {"listen": f"127.0.0.1:{ports.xds}"},
        "api": {"listen": f"127.0.0.1:{ports.api}"},
        "http": {"listen": f"127.0.0.1:{ports.http}"},
        "journal": str(folder / "journal.sqlite"),
        "telemetry": {"envoy": {"admin": [f"http://127.0.0.1:{ports.admin}"]}},
        "interval": scenario.interval,
        "envoy": {"static_resources": resources(scenario, ports, first)},
        **scenario.settings,
    }


def runtime(scenario: Scenario, plan: Plan) -> str:
    """The query of `/runtime_modify` that puts these weights in force."""
    return "&".join(
        f"{name}.{way}={weight}"
        for name in scenario.paths
        for way, weight in to_integers(plan.weights[name]).items()
    )


def resources(scenario: Scenario, ports: Ports, first: Steering) -> dict[str, Any]:
    """Envoy's `static_resources`."""
    routes = [_route(path, first) for path in scenario.paths.values()]
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {
            "name": HOST,
            "virtual_hosts": [{"name": HOST, "domains": ["*"], "routes": routes}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
    listener = {"name": HOST, "address": _address(ports.envoy), "filter_chains": [chain]}
    return {"listeners": [listener], "clusters": _clusters(scenario, ports, first)}


def _one_cluster(steering: Steering) -> bool:
    return steering.choices is not None or steering.endpoints


def _route(path: Path, first: Steering) -> dict[str, Any]:
    split = to_integers(first.plan.weights[path.name])
    action: dict[str, Any] = (
        {"cluster": path.name}
        if _one_cluster(first)
        else {
            "weighted_clusters": {
                "runtime_key_prefix": path.name,
                "clusters": [{"name": way, "weight": weight} for way, weight in split.items()],
            }
        }
    )
    action["timeout"] = f"{path.timeout:g}s"
    if path.retries:
        action["retry_policy"] = {"retry_on": "5xx", "num_retries": path.retries}
        if path.per_try_timeout is not None:
            action["retry_policy"]["per_try_timeout"] = f"{path.per_try_timeout:g}s"
    match = {"prefix": f"/{path.name}"}
    return {"name": path.name, "stat_prefix": path.name, "match": match, "route": action}


def _clusters(scenario: Scenario, ports: Ports, first: Steering) -> list[dict[str, Any]]:
    def port(way: str) -> int:
        return ports.upstreams[scenario.ways[way].upstream]

    if not _one_cluster(first):
        limits = {way: path.retry_limit for path in scenario.paths.values() for way in path.ways}
        return [_cluster(way, {port(way): 1}, limits[way], {}) for way in limits]
    found = []
    for name, path in scenario.paths.items():
        weights = to_integers(first.plan.weights[name], 1000)
        # Envoy refuses endpoints of weight 0.
        endpoints = {port(way): max(1, weight) for way, weight in weights.items()}
        how: dict[str, Any] = {}
        if first.choices is not None:
            endpoints = dict.fromkeys(endpoints, 1)
            how = {
                "lb_policy": "LEAST_REQUEST",
                "least_request_lb_config": {"choice_count": first.choices},
            }
        found.append(_cluster(name, endpoints, path.retry_limit, how))
    return found


def _cluster(
    name: str, endpoints: Mapping[int, int], retries: int, how: Mapping[str, Any]
) -> dict[str, Any]:
    hosts = [
        {"endpoint": {"address": _address(port)}, "load_balancing_weight": weight}
        for port, weight in endpoints.items()
    ]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": {"thresholds": [{"max_retries": retries}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
        **how,
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
