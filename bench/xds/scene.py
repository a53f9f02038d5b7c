"""What the servers of the bench serve: an operator's configuration of a given shape.

Eigenmesh is given the document; the floor is given the same resources, built without Eigenmesh.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

RUNTIME_LAYER = "eigenmesh"
ROUTE_TABLE = "edge"

LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
RUNTIME = "type.googleapis.com/envoy.service.runtime.v3.Runtime"

_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network."
    "http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_WEIGHTS = 10_000


@dataclass(frozen=True, slots=True)
class Shape:
    """One route table: `hosts` virtual hosts of `routes` routes of `split` weighted clusters.

    clusters: how many there are in all; the routes take turns over them.
    """

    hosts: int = 1
    routes: int = 40
    split: int = 4
    clusters: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.split <= self.clusters:
            raise ValueError(f"split: {self.split}: use 2 to {self.clusters} (clusters)")

    def arguments(self) -> list[str]:
        """For a command line that `from_arguments` reads."""
        return [part for name, value in asdict(self).items() for part in (f"--{name}", str(value))]

    @staticmethod
    def add_to(parser: argparse.ArgumentParser) -> None:
        for name, value in asdict(Shape()).items():
            parser.add_argument(f"--{name}", type=int, default=value)

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Self:
        return cls(args.hosts, args.routes, args.split, args.clusters)


def document(shape: Shape) -> dict[str, Any]:
    """An operator's Envoy file with inline route table and static clusters."""
    listener = _listener({"route_config": route_table(shape)})
    return {"static_resources": {"listeners": [listener], "clusters": _clusters(shape)}}


def route_table(shape: Shape, shift: int = 0) -> dict[str, Any]:
    """The table in Envoy's JSON form; `shift` of the first route's weight has moved."""
    return {
        "name": ROUTE_TABLE,
        "virtual_hosts": [
            {
                "name": f"host-{host}",
                "domains": [f"host-{host}.example"],
                "routes": [
                    _route(shape, host * shape.routes + index, shift if host + index == 0 else 0)
                    for index in range(shape.routes)
                ],
            }
            for host in range(shape.hosts)
        ],
    }


def resources(shape: Shape) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Type URL -> (name, resource), as a control plane sends them: the table by RDS."""
    rds = {
        "route_config_name": ROUTE_TABLE,
        "config_source": {"ads": {}, "resource_api_version": "V3"},
    }
    return {
        CLUSTER: [(cluster["name"], cluster) for cluster in _clusters(shape)],
        LISTENER: [("edge", _listener({"rds": rds}))],
        ROUTE: [(ROUTE_TABLE, route_table(shape))],
        RUNTIME: [(RUNTIME_LAYER, {"name": RUNTIME_LAYER, "layer": {}})],
    }


def shifted(split: Mapping[str, float], share: float) -> dict[str, float]:
    """The split with the first cluster at `share` and the others in proportion."""
    first = next(iter(split))
    rest = (1.0 - share) / (1.0 - split[first])
    return {name: share if name == first else weight * rest for name, weight in split.items()}


def _route(shape: Shape, index: int, shift: int) -> dict[str, Any]:
    base, spare = divmod(_WEIGHTS, shape.split)
    weights = [base + (k < spare) for k in range(shape.split)]
    moved = min(shift, weights[1])
    weights[0] += moved
    weights[1] -= moved
    clusters = [
        {"name": _cluster_name((index + k) % shape.clusters), "weight": weight}
        for k, weight in enumerate(weights)
    ]
    return {
        "name": f"route-{index}",
        "match": {"prefix": f"/service-{index}/"},
        # Eigenmesh would add one, and the floor would not.
        "stat_prefix": f"route-{index}",
        "route": {"weighted_clusters": {"clusters": clusters}, "timeout": "5s"},
    }


def _listener(routes: Mapping[str, Any]) -> dict[str, Any]:
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "ingress",
        **routes,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": "edge",
        "address": _address(10_000),
        "filter_chains": [{"filters": filters}],
    }


def _clusters(shape: Shape) -> list[dict[str, Any]]:
    return [_cluster(_cluster_name(index)) for index in range(shape.clusters)]


def _cluster(name: str) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(8080)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _cluster_name(index: int) -> str:
    return f"backend-{index:05d}"


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
