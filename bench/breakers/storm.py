"""The retry storm: its parameters, and what stands on the stage.

One route over two equal clusters, each a few slots of sleeping at three quarters of its capacity.
Envoy gives an attempt PER_TRY seconds, a few times what it takes when all is well, and tries twice
more. The upstreams do not notice that an attempt was given up: they serve what nobody waits for.
For TRIGGER seconds they have a fifth of their slots' speed; that fills their queues, then every
attempt is late, three are made of each request, and 2.25 times the capacity arrive: the storm feeds
itself long after the trigger.

`max_retries` is out of the way, as service meshes set it; Envoy's own default of 3 is a damper
where capacities are as small as here. All other thresholds are Envoy's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROUTE = "shop"
CLUSTERS = ("a", "b")
SLOTS = 4
SERVICE = 0.05
"""Mean seconds of service, exponentially distributed."""
CAPACITY = len(CLUSTERS) * SLOTS / SERVICE
"""Requests/s."""
DEMAND = 0.75 * CAPACITY
PER_TRY = 0.4
"""Seconds that Envoy gives an attempt."""
RETRIES = 2
RETRY_ON = "5xx,reset"
TRIGGER = 5.0
"""Seconds for which the upstreams are slow."""
SLOWER = 5.0
"""How many times slower."""
RECOVERED = 0.95
"""Goodput, of what it was before, at which it is back."""


def resources(listen: int, upstreams: Mapping[str, int]) -> dict[str, Any]:
    """The operator's `static_resources`; listen, upstreams: ports on 127.0.0.1."""
    weighted = {"clusters": [{"name": name, "weight": 50} for name in CLUSTERS]}
    retry_policy = {
        "retry_on": RETRY_ON,
        "num_retries": RETRIES,
        "per_try_timeout": f"{PER_TRY}s",
    }
    route = {
        "name": ROUTE,
        "match": {"prefix": f"/{ROUTE}"},
        "route": {"weighted_clusters": weighted, "retry_policy": retry_policy},
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {
            "name": "edge",
            "virtual_hosts": [{"name": "demo", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {
        "listeners": [{"name": "edge", "address": _socket(listen), "filter_chains": [chain]}],
        "clusters": [_cluster(name, upstreams[name]) for name in CLUSTERS],
    }


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _socket(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [{"max_retries": 1024}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
