"""What every variant of a scenario is made of: upstreams, one route, Envoy's and our settings.

All variants of a scenario have the same static Envoy configuration but for what they are named
after. Eigenmesh joins by its overlay mode, which adds a runtime layer and touches nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eigenmesh.demo.oracle import Upstream, proportional
from eigenmesh.demo.processes import free_port
from eigenmesh.mesh.plan import to_integers
from eigenmesh.xds.bootstrap import beside_another, bootstrap

ROUTE = "shop"
SLO = 0.1
"""Seconds: the target of the p95, and what goodput is counted within."""

KNEE = 0.8
"""Utilisation at which the knee of a curve is taken, as Eigenmesh's `objective.knee` does."""

_TYPES = "type.googleapis.com/envoy.extensions.filters"

Control = Literal["none", "rule", "eigenmesh"]


@dataclass(frozen=True)
class Variant:
    """One way to run the scenario's Envoys.

    control: who moves the limits while it runs. smoothing: p of the published rule. limits:
    cluster -> Envoy's thresholds, Envoy's own where it has none. one_cluster: all upstreams are
    endpoints of one cluster with LEAST_REQUEST, instead of a weighted cluster each. outlier: of
    that, Envoy's `outlier_detection`. settings: added to Eigenmesh's settings file, a section at a
    time.
    """

    name: str
    control: Control = "none"
    smoothing: float = 0.9
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    one_cluster: bool = False
    outlier: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bed:
    """What the variants of a scenario have in common.

    retry, timeout: the route's `retry_policy` and `timeout`, in Envoy's form.
    """

    upstreams: Sequence[Upstream]
    proxies: int = 1
    retry: Mapping[str, Any] | None = None
    timeout: str = "15s"

    @property
    def capacity(self) -> float:
        """Requests/s of all upstreams."""
        return sum(u.capacity for u in self.upstreams)

    def clusters(self, variant: Variant) -> tuple[str, ...]:
        return ("all",) if variant.one_cluster else tuple(u.name for u in self.upstreams)


@dataclass(frozen=True)
class Ports:
    """Where the processes of one variant listen on 127.0.0.1; a list has one per proxy."""

    upstreams: Mapping[str, int]
    envoys: Sequence[int]
    admins: Sequence[int]
    xds: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)

    @classmethod
    def of(cls, bed: Bed) -> Ports:
        proxies = range(bed.proxies)
        return cls(
            {u.name: free_port() for u in bed.upstreams},
            [free_port() for _ in proxies],
            [free_port() for _ in proxies],
        )


def knee(upstream: Upstream) -> int:
    """Requests in flight at the knee of its true curve, rounded up."""
    load = KNEE * upstream.capacity
    return math.ceil(load * upstream.mean_latency(load))


def static_limits(upstreams: Sequence[Upstream], factor: float) -> dict[str, dict[str, int]]:
    """What an operator who measured the healthy upstreams would set: `factor` times the knee."""
    return {u.name: {"max_requests": math.ceil(factor * knee(u))} for u in upstreams}


def envoy(bed: Bed, variant: Variant, ports: Ports, proxy: int) -> dict[str, Any]:
    """The bootstrap of one proxy."""
    # The statistics are what `eigenmesh bootstrap` advises, for every variant: nobody reads worse.
    joined = beside_another(
        bootstrap(
            node_id=f"envoy-{proxy + 1}",
            node_cluster="edge",
            xds_address=f"127.0.0.1:{ports.xds}",
            admin_address=f"127.0.0.1:{ports.admins[proxy]}",
            runtime_layer="eigenmesh",
        )
    )
    layers: list[Any] = [{"name": "admin", "admin_layer": {}}]
    resources = _resources(bed, variant, ports, proxy)
    if variant.control == "eigenmesh":
        layers += joined["layered_runtime"]["layers"]
        resources["clusters"] += joined["static_resources"]["clusters"]
    return {
        "node": {"id": f"envoy-{proxy + 1}", "cluster": "edge"},
        "stats_flush_on_admin": joined["stats_flush_on_admin"],
        "stats_config": joined["stats_config"],
        "layered_runtime": {"layers": layers},
        "static_resources": resources,
    }


def settings(bed: Bed, variant: Variant, ports: Ports, folder: Path) -> dict[str, Any]:
    """The settings file of Eigenmesh, as a user with this latency target would write it.

    The smallest limit is below the default of 8: an upstream of two slots needs less.
    """
    document: dict[str, Any] = {
        "mode": "auto",
        "overlay": True,
        "xds": {"listen": f"127.0.0.1:{ports.xds}"},
        "api": {"listen": f"127.0.0.1:{ports.api}"},
        "http": {"listen": f"127.0.0.1:{ports.http}"},
        "journal": str(folder / "journal.sqlite"),
        "telemetry": {"envoy": {"admin": [f"http://127.0.0.1:{p}" for p in ports.admins]}},
        # A p95 beyond the target is nearly as bad as an error.
        "objective": {"slo": SLO, "quantile": 0.95, "slo_price": 10.0},
        "guard": {"min_limit": 2},
        # A route over one cluster is only steered if it is asked for.
        "steer": [ROUTE],
        "envoy": {"static_resources": _resources(bed, variant, ports, 0)},
    }
    for section, value in variant.settings.items():
        old = document.get(section)
        document[section] = {**old, **value} if isinstance(old, dict) else value
    return document


def _resources(bed: Bed, variant: Variant, ports: Ports, proxy: int) -> dict[str, Any]:
    return {
        "listeners": [_listener(bed, variant, ports.envoys[proxy])],
        "clusters": _clusters(bed, variant, ports),
    }


def _listener(bed: Bed, variant: Variant, port: int) -> dict[str, Any]:
    weights = to_integers(proportional(bed.upstreams))
    split = {
        "runtime_key_prefix": ROUTE,
        "clusters": [{"name": name, "weight": weight} for name, weight in weights.items()],
    }
    action: dict[str, Any] = (
        {"cluster": "all"} if variant.one_cluster else {"weighted_clusters": split}
    )
    action["timeout"] = bed.timeout
    if bed.retry is not None:
        action["retry_policy"] = dict(bed.retry)
    route = {"name": ROUTE, "stat_prefix": ROUTE, "match": {"prefix": "/"}, "route": action}
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {
            "name": "edge",
            "virtual_hosts": [{"name": "edge", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
    return {"name": "edge", "address": _address(port), "filter_chains": [chain]}


def _clusters(bed: Bed, variant: Variant, ports: Ports) -> list[dict[str, Any]]:
    if variant.one_cluster:
        return [_cluster("all", list(ports.upstreams.values()), variant)]
    return [_cluster(u.name, [ports.upstreams[u.name]], variant) for u in bed.upstreams]


def _cluster(name: str, endpoints: Sequence[int], variant: Variant) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST" if variant.one_cluster else "ROUND_ROBIN",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(p)}} for p in endpoints]}
            ],
        },
    }
    if name in variant.limits:
        cluster["circuit_breakers"] = {"thresholds": [dict(variant.limits[name])]}
    if variant.outlier is not None:
        cluster["outlier_detection"] = dict(variant.outlier)
    return cluster


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
