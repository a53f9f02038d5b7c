"""What of Envoy's own stands between load and a cluster beside its circuit breaker.

- The HTTP filter `adaptive_concurrency` moves a limit of its own with the latency it sees. Two such
  controllers on one cluster read each other's cuts as the cluster's doing, so where it stands, on a
  listener or among the cluster's upstream filters, `max_requests` is its business. That holds for
  one that is switched off, too: a runtime key or a route may switch it on. (Envoy 1.40 refuses it
  among the upstream filters; it is looked for there all the same.)
- Outlier detection ejects hosts that fail, and the cluster's capacity with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from eigenmesh.xds.protos import type_name, walk
from eigenmesh.xds.rewrite import MANAGER, ROUTED, Located

_ADAPTIVE = "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency"
_FETCHED = "envoy.config.core.v3.ExtensionConfigSource"
_THRESHOLDS = {
    "consecutive_5xx": "5",
    "interval": "10s",
    "base_ejection_time": "30s",
    "max_ejection_percent": "10",
}
"""config.cluster.v3.OutlierDetection: what Envoy assumes where a field is absent."""


def adaptive_clusters(
    listeners: Iterable[Located],
    tables: Iterable[tuple[str, RouteConfiguration]],
    clusters: Mapping[str, Cluster],
) -> frozenset[str]:
    """The clusters to which requests come through an adaptive_concurrency filter.

    tables: the route configurations, under the names by which the listeners fetch or hold them.
    """
    by_name = {table.name: table for _, table in tables}
    found = {name for name, cluster in clusters.items() if _upstream(cluster)}
    for manager in _managers(listeners):
        match manager.WhichOneof("route_specifier"):
            case "route_config":
                names = [manager.route_config.name]
            case "rds":
                names = [manager.rds.route_config_name]
            case _:  # scoped: a request's own key picks the table
                names = list(by_name)
        for name in names:
            if name in by_name:
                found |= _routed(by_name[name])
    return frozenset(found & clusters.keys())


def ejects(cluster: Cluster) -> str:
    """The thresholds of a cluster's outlier detection, given or Envoy's; empty without one."""
    if not cluster.HasField("outlier_detection"):
        return ""
    given = cluster.outlier_detection
    return ", ".join(
        f"{name} {_shown(getattr(given, name)) if given.HasField(name) else default}"
        for name, default in _THRESHOLDS.items()
    )


def _shown(value: Any) -> str:
    if hasattr(value, "ToTimedelta"):
        return f"{value.ToTimedelta().total_seconds():g}s"
    return str(value.value)


def _managers(listeners: Iterable[Located]) -> Iterator[Any]:
    """The HTTP connection managers that have the filter."""
    found: list[Any] = []

    def visit(message: Any, at: str) -> bool:
        if message.DESCRIPTOR.full_name != MANAGER:
            return True
        if any(_holds(each, at) for each in message.http_filters):
            found.append(message)
        return False

    for path, listener in listeners:
        walk(listener, path, visit)
    yield from found


def _upstream(cluster: Cluster) -> bool:
    options = cluster.typed_extension_protocol_options
    return any(_holds(options[key], "") for key in options)


def _holds(message: Any, path: str) -> bool:
    """Whether the filter is in this message, or may be fetched into it."""
    found = False

    def visit(inner: Any, _: str) -> bool:
        nonlocal found
        kind = inner.DESCRIPTOR.full_name
        fetched = kind == _FETCHED and _ADAPTIVE in map(type_name, inner.type_urls)
        found = found or kind == _ADAPTIVE or fetched
        return not found

    walk(message, path, visit)
    return found


def _routed(table: RouteConfiguration) -> set[str]:
    names: set[str] = set()

    def visit(message: Any, _: str) -> None:
        if (field := ROUTED.get(message.DESCRIPTOR.full_name)) is not None:
            names.add(getattr(message, field))

    walk(table, "", visit)
    return names
