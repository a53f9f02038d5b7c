"""Which of Envoy's statistics are needed, and what Prometheus calls them.

Envoy has names like `cluster.shop.upstream_rq_total`. /stats/prometheus turns parts of a name
into labels and glues the rest together with underscores. Its extraction is by dot-separated
token (envoy, source/common/config/well_known_names.cc), so a cluster or virtual host whose name
has dots is taken apart in the middle:

    cluster.svc.local.upstream_rq_total
        envoy_cluster_local_upstream_rq_total{envoy_cluster_name="svc"}
    vhost.shop.route.buy.upstream_rq_total
        envoy_vhost_route_upstream_rq_total{envoy_virtual_host="shop",envoy_route="buy"}
    vhost.shop.example.route.buy.upstream_rq_total
        envoy_vhost_example_route_buy_upstream_rq_total{envoy_virtual_host="shop"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from eigenmesh.mesh import Topology

TOTAL, COMPLETED, RETRY = "upstream_rq_total", "upstream_rq_completed", "upstream_rq_retry"
ERRORS, REJECTED = "upstream_rq_5xx", "upstream_rq_503"
OVERFLOWS = ("upstream_rq_pending_overflow", "upstream_rq_active_overflow")
"""Requests that a breaker rejected. Envoy 1.36 counts those over max_requests in the first, 1.38
and later in the second; 1.40 has both."""
UNREACHED = ("upstream_rq_pending_failure_eject", "upstream_cx_none_healthy")
"""Requests that never got to an upstream for another reason: no connection, no healthy host."""
TIMEOUTS = ("upstream_rq_timeout", "upstream_rq_per_try_timeout")
RESETS = ("upstream_rq_rx_reset", "upstream_cx_destroy_remote_with_active_rq")
"""Of a stream (HTTP/2), and of a connection with a request on it: over HTTP/1 the only sign."""
ACTIVE, PENDING = "upstream_rq_active", "upstream_rq_pending_active"
CONNECTIONS = "upstream_cx_active"
TIME = "upstream_rq_time"
SUM, COUNT, BUCKET = f"{TIME}_sum", f"{TIME}_count", f"{TIME}_bucket"
UPTIME = "uptime"

GAUGES = frozenset({ACTIVE, PENDING, CONNECTIONS})
HISTOGRAM = frozenset({SUM, COUNT, BUCKET})

CLUSTER_STATS = (
    *(TOTAL, COMPLETED, RETRY, ERRORS, *OVERFLOWS, *UNREACHED, *TIMEOUTS, *RESETS),
    *(ACTIVE, PENDING, CONNECTIONS, TIME),
)
ROUTE_STATS = (TOTAL, RETRY, REJECTED)

_LONGEST = 12_000
"""Characters of names in a filter; with more, all names are asked for and picked here."""


class Owner(NamedTuple):
    """Whose statistic it is: kind "cluster", "route" or "server"; its name in the topology."""

    kind: str
    name: str


SERVER = Owner("server", "")


class Slot(NamedTuple):
    """Where a sample belongs. bound: a histogram bucket's upper bound as Envoy writes it (ms)."""

    owner: Owner
    stat: str
    bound: float = 0.0


class Catalogue:
    """The statistics of one mesh.

    routes: steered route -> (virtual host, stat_prefix). stat_names: cluster -> its
    `alt_stat_name`, where it has one.
    """

    def __init__(
        self,
        topology: Topology,
        routes: Mapping[str, tuple[str, str]],
        stat_names: Mapping[str, str] | None = None,
    ) -> None:
        alt = stat_names or {}
        self.clusters = {
            # Envoy replaces colons in the names of cluster statistics.
            name: alt.get(name, name).replace(":", "_")
            for name in topology.steered_clusters
        }
        self.routes = {r.name: routes[r.name] for r in topology.routes if r.name in routes}
        self.without_stats = tuple(r.name for r in topology.routes if r.name not in routes)
        self._index: dict[tuple[str, str, str], tuple[Owner, str]] = {
            ("envoy_server_uptime", "", ""): (SERVER, UPTIME)
        }
        for name, stat_name in self.clusters.items():
            for stat in CLUSTER_STATS:
                self._add(Owner("cluster", name), stat, _cluster_series(stat_name, stat))
        for name, (host, prefix) in self.routes.items():
            for stat in ROUTE_STATS:
                self._add(Owner("route", name), stat, _route_series(host, prefix, stat))

    def _add(self, owner: Owner, stat: str, series: tuple[str, str, str]) -> None:
        name, *tags = series
        suffixes = ("_sum", "_count", "_bucket") if stat == TIME else ("",)
        for suffix in suffixes:
            self._index[(name + suffix, tags[0], tags[1])] = (owner, stat + suffix)

    @property
    def owners(self) -> tuple[str, ...]:
        """Every cluster and route that an observation should speak of."""
        return (*self.clusters, *self.routes, *self.without_stats)

    def slot(self, name: str, labels: Mapping[str, str]) -> Slot | None:
        """Where this sample belongs; None if it is not needed."""
        tag = labels.get("envoy_cluster_name") or labels.get("envoy_virtual_host", "")
        found = self._index.get((name, tag, labels.get("envoy_route", "")))
        if found is None:
            return None
        owner, stat = found
        if stat == ERRORS and labels.get("envoy_response_code_class") != "5":
            return None
        if stat == REJECTED and labels.get("envoy_response_code") != "503":
            return None
        return Slot(owner, stat, float(labels.get("le", "nan")) if stat == BUCKET else 0.0)

    @property
    def stats_filter(self) -> str:
        """For Envoy's admin `?filter=`, which matches its own names (RE2)."""
        clusters = _either(self.clusters.values())
        patterns = [r"^server\.uptime$", rf"^cluster\.{clusters}\.{_either(CLUSTER_STATS)}$"]
        if self.routes:
            scopes = _either(f"{host}.route.{prefix}" for host, prefix in self.routes.values())
            patterns.append(rf"^vhost\.{scopes}\.{_either(ROUTE_STATS)}$")
        return "|".join(patterns)

    def matchers(self, selector: str = "") -> str:
        """PromQL label matchers of every series that is needed; `selector` adds the user's."""
        keys = self._index.keys()
        cluster_keys = [k for k, (owner, _) in self._index.items() if owner.kind == "cluster"]
        route_keys = [k for k, (owner, _) in self._index.items() if owner.kind == "route"]
        # A matcher that accepts the empty string also accepts series without that label.
        wanted = [
            ("__name__", {k[0] for k in keys}),
            ("envoy_cluster_name", {"", *(k[1] for k in cluster_keys)}),
            ("envoy_virtual_host", {"", *(k[1] for k in route_keys)}),
            ("envoy_route", {"", *(k[2] for k in route_keys)}),
            ("envoy_response_code_class", {"", "5"}),
            ("envoy_response_code", {"", "503"}),
        ]
        out = []
        for label, values in wanted:
            pattern = "|".join(re.escape(v) for v in sorted(values))
            if len(pattern) <= _LONGEST:
                out.append(f"{label}=~{json.dumps(pattern, ensure_ascii=False)}")
        return ",".join([*out, selector] if selector else out)


def _either(names: Iterable[str]) -> str:
    pattern = "|".join(re.escape(name) for name in names)
    return f"(?:{pattern})" if pattern and len(pattern) <= _LONGEST else ".+"


def _metric(*parts: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", "_".join(("envoy", *filter(None, parts))))


def _coded(stat: str) -> str:
    """Response codes and classes are labels, not part of the name."""
    return {ERRORS: "upstream_rq_xx", REJECTED: "upstream_rq"}.get(stat, stat)


def _cluster_series(stat_name: str, stat: str) -> tuple[str, str, str]:
    """(name, envoy_cluster_name, "") of a cluster's series."""
    tag, _, rest = stat_name.partition(".")
    return _metric("cluster", rest, _coded(stat)), tag, ""


def _route_series(host: str, prefix: str, stat: str) -> tuple[str, str, str]:
    """(name, envoy_virtual_host, envoy_route) of a route's series."""
    tag, _, rest = host.partition(".")
    if rest:
        return _metric("vhost", rest, "route", prefix, _coded(stat)), tag, ""
    route, _, more = prefix.partition(".")
    return _metric("vhost", "route", more, _coded(stat)), tag, route
