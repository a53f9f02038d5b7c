"""The operator's own Envoy v3 configuration, understood.

    static_resources: {listeners: ..., clusters: ..., secrets: ...}     as in an envoy.yaml
    listeners, routes, clusters, endpoints, secrets,
    extension_configs                                                   or given directly

All of it is served over xDS, unless in overlay mode, in which another control plane has it and
it is only read. What Envoy keeps in its bootstrap (admin, node, ...) is accepted
and listed as left alone, so that a whole envoy.yaml can be pasted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, NamedTuple

from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.core.v3.base_pb2 import RoutingPriority
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.descriptor_pool import DescriptorPool

from eigenmesh.mesh import BreakerLimits, Cluster, Plan, RetryBudget, Route, Topology
from eigenmesh.xds import limiters, rewrite, steering
from eigenmesh.xds.protos import KNOWN_HERE, OperatorError, message_type, parse
from eigenmesh.xds.resource import Key, Resource
from eigenmesh.xds.steering import SteeredRoute

__all__ = ["OperatorConfig", "OperatorError", "RouteStats", "SteeredRoute", "parse_operator"]

_SECTIONS = {
    "listeners": Listener.DESCRIPTOR.full_name,
    "routes": RouteConfiguration.DESCRIPTOR.full_name,
    "clusters": ClusterMessage.DESCRIPTOR.full_name,
    "endpoints": ClusterLoadAssignment.DESCRIPTOR.full_name,
    "secrets": Secret.DESCRIPTOR.full_name,
    "extension_configs": TypedExtensionConfig.DESCRIPTOR.full_name,
}
_STATIC = ("listeners", "clusters", "secrets")
_WHY_LEFT = {
    "dynamic_resources": "Eigenmesh serves everything; resources of other servers are not merged",
    "layered_runtime": "keep it in Envoy's bootstrap, below the layer that Eigenmesh serves",
}
# config.cluster.v3.CircuitBreakers.Thresholds: what Envoy assumes where a field is absent.
_DEFAULT_LIMITS = {
    "max_connections": 1024,
    "max_pending_requests": 1024,
    "max_requests": 1024,
    "max_retries": 3,
}


class RouteStats(NamedTuple):
    """Where Envoy counts a route's requests: vhost.<virtual_host>.route.<stat_prefix>."""

    virtual_host: str
    stat_prefix: str


@dataclass(frozen=True)
class RouteTable:
    """A RouteConfiguration. `message` must not be changed: copy it."""

    message: RouteConfiguration
    needs: frozenset[Key]


@dataclass(frozen=True, eq=False)
class OperatorConfig:
    """What the operator gave, ready to be served.

    fixed: what no plan changes: listeners, clusters, endpoints, secrets, extension configurations.
    tables: the route configurations by name. steered: the routes whose weights are decided here.
    left_alone: a line for each thing that Eigenmesh does not touch, and why. adaptive: the clusters
    whose concurrency an Envoy filter already adapts (`limiters`): no limit of theirs is moved.
    In overlay mode `fixed` and `tables` are empty.
    """

    fixed: tuple[Resource, ...]
    tables: Mapping[str, RouteTable]
    clusters: Mapping[str, ClusterMessage]
    steered: tuple[SteeredRoute, ...]
    left_alone: tuple[str, ...]
    adaptive: frozenset[str] = frozenset()

    @cached_property
    def _topology(self) -> Topology:
        return Topology(
            tuple(Cluster(name, adaptive=name in self.adaptive) for name in self.clusters),
            tuple(Route(r.name, r.clusters, r.retries) for r in self.steered),
        )

    def topology(self) -> Topology:
        """Every cluster, and the steered routes."""
        return self._topology

    @cached_property
    def own_limits(self) -> Mapping[str, BreakerLimits]:
        """The operator's thresholds of steered clusters that have any, for default priority.

        A threshold of 0 rejects everything, which no plan can say: such a cluster is left out.
        """
        found = {}
        for name in self._topology.steered_clusters:
            for thresholds in self.clusters[name].circuit_breakers.thresholds:
                given = {f for f in _DEFAULT_LIMITS if thresholds.HasField(f)}
                budget = _budget(thresholds)
                if thresholds.priority != RoutingPriority.DEFAULT or not (given or budget):
                    continue
                limits = _DEFAULT_LIMITS | {f: getattr(thresholds, f).value for f in given}
                if min(limits.values()) > 0:
                    found[name] = BreakerLimits(**limits, retry_budget=budget)
        return found

    def original_plan(self) -> Plan:
        """The operator's own weights and thresholds: what restoring means."""
        weights = {
            r.name: {c: w / sum(r.weights.values()) for c, w in r.weights.items()}
            for r in self.steered
        }
        return Plan(weights, self.own_limits)

    def ejecting(self) -> dict[str, str]:
        """Steered cluster -> the thresholds of its outlier detection, if it has any."""
        told = {n: limiters.ejects(self.clusters[n]) for n in self._topology.steered_clusters}
        return {name: thresholds for name, thresholds in told.items() if thresholds}

    def stat_names(self) -> dict[str, str]:
        """Cluster -> the other name under which Envoy counts it (`alt_stat_name`)."""
        return {n: c.alt_stat_name for n, c in self.clusters.items() if c.alt_stat_name}

    def route_stats(self) -> dict[str, RouteStats]:
        """Route name -> where Envoy counts it."""
        return {r.name: RouteStats(r.virtual_host, r.stat_prefix) for r in self.steered}


def parse_operator(
    document: Mapping[str, Any],
    *,
    steer: Sequence[str] | None = None,
    source: str = "envoy",
    prefix: str = "",
    overlay: bool = False,
    definitions: DescriptorPool = KNOWN_HERE,
) -> OperatorConfig:
    """Understands a document as described above.

    steer: names of the routes to steer; None: every route with two or more weighted clusters.
    source: what the paths in errors begin with. prefix: what the names of the routes begin with.
    overlay: another control plane serves all this, and perhaps more. definitions: of Envoy's
    messages (see `read_definitions`). Raises OperatorError.
    """
    left: list[str] = []
    parsed: dict[str, list[tuple[str, Any]]] = {section: [] for section in _SECTIONS}
    for section, path, items in _sections(document, source, left, definitions):
        kind = message_type(_SECTIONS[section], definitions)
        assert kind is not None, "definitions begin with what is known here"
        for index, item in enumerate(items):
            at = f"{path}[{index}]"
            parsed[section].append((at, parse(item, kind, at)))
    for index, (_, listener) in enumerate(parsed["listeners"]):
        # Envoy takes a nameless static listener; over LDS a name is its identity.
        listener.name = listener.name or f"listener-{index}"
    for section, items in parsed.items():
        _check_names(items, "cluster_name" if section == "endpoints" else "name")

    clusters_by_name = {c.name: c for _, c in parsed["clusters"]}
    if overlay:
        given = {r.name for _, r in parsed["routes"]}
        inline, unknown = rewrite.inline_tables(parsed["listeners"], given)
        tables_read = [*parsed["routes"], *inline]
        steered, not_steered = steering.find_overlay(tables_read, steer, clusters_by_name, prefix)
        adaptive = limiters.adaptive_clusters(parsed["listeners"], tables_read, clusters_by_name)
        return OperatorConfig(
            fixed=(),
            tables={},
            clusters=clusters_by_name,
            steered=steered,
            left_alone=(*unknown, *not_steered, *_adaptive_lines(steered, adaptive)),
            adaptive=adaptive,
        )

    config = rewrite.Rewrite(
        clusters=set(clusters_by_name),
        secrets={s.name for _, s in parsed["secrets"]},
        endpoints={e.cluster_name for _, e in parsed["endpoints"]},
        extensions={e.name for _, e in parsed["extension_configs"]},
        routes=parsed["routes"],
    )
    listeners = config.listeners(parsed["listeners"])
    clusters = config.cluster_resources(parsed["clusters"])
    steered, not_steered = steering.find(config.routes, steer, prefix)
    adaptive = limiters.adaptive_clusters(parsed["listeners"], config.routes, clusters_by_name)
    tables = {
        table.name: RouteTable(table, config.check_routes(path, table))
        for path, table in config.routes
    }
    fixed = (*clusters, *config.plain(parsed["endpoints"], "cluster_name"))
    fixed += (*config.plain(parsed["secrets"], "name"), *listeners)
    fixed += tuple(config.extensions(parsed["extension_configs"]))
    return OperatorConfig(
        fixed=fixed,
        tables=tables,
        clusters=clusters_by_name,
        steered=steered,
        left_alone=(*left, *config.left, *not_steered, *_adaptive_lines(steered, adaptive)),
        adaptive=adaptive,
    )


def _adaptive_lines(steered: Sequence[SteeredRoute], adaptive: frozenset[str]) -> Iterator[str]:
    for name in sorted(adaptive & {cluster for route in steered for cluster in route.clusters}):
        yield f"limits of {name}: Envoy's adaptive_concurrency filter holds its requests in flight"


def _budget(thresholds: CircuitBreakers.Thresholds) -> RetryBudget | None:
    if not thresholds.HasField("retry_budget"):
        return None
    given, default = thresholds.retry_budget, RetryBudget()
    percent, least = default.budget_percent, default.min_retry_concurrency
    if given.HasField("budget_percent"):
        percent = given.budget_percent.value
    if given.HasField("min_retry_concurrency"):
        least = given.min_retry_concurrency.value
    return RetryBudget(percent, least)


def _sections(
    document: Mapping[str, Any], source: str, left: list[str], definitions: DescriptorPool
) -> Iterator[tuple[str, str, list[Any]]]:
    """(section, path, items) of what is served; lines about the rest go to `left`."""
    _mapping(document, source)
    for key, value in document.items():
        path = f"{source}.{key}"
        if key in _SECTIONS:
            yield key, path, _items(value, path)
        elif key in ("static_resources", "staticResources"):
            _mapping(value, path)
            for section, items in value.items():
                at = f"{path}.{section}"
                if section not in _STATIC:
                    raise OperatorError(at, _kind(items), _one_of(section, _STATIC))
                yield section, at, _items(items, at)
        elif key in _bootstrap_keys(definitions):
            left.append(f"{key}: {_WHY_LEFT.get(key, 'part of the bootstrap')}")
        else:
            known = (*_SECTIONS, "static_resources", *_bootstrap_keys(definitions))
            raise OperatorError(path, _kind(value), _one_of(key, known))


def _bootstrap_keys(definitions: DescriptorPool) -> frozenset[str]:
    bootstrap = message_type("envoy.config.bootstrap.v3.Bootstrap", definitions)
    fields = bootstrap.DESCRIPTOR.fields if bootstrap else ()
    return frozenset(f.name for f in fields) | frozenset(f.json_name for f in fields)


def _check_names(items: Sequence[tuple[str, Any]], field: str) -> None:
    first: dict[str, str] = {}
    for path, item in items:
        name = getattr(item, field)
        if not name:
            raise OperatorError(f"{path}.{field}", name, "give it a name")
        if name in first:
            remedy = f"{first[name]} has this name too; make names unique"
            raise OperatorError(f"{path}.{field}", name, remedy)
        first[name] = path


def _mapping(value: object, path: str) -> None:
    if not isinstance(value, Mapping):
        raise OperatorError(path, _kind(value), "write a mapping, as in an envoy.yaml")


def _items(value: object, path: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise OperatorError(path, _kind(value), "write a list")
    return value


def _kind(value: object) -> object:
    return f"a {type(value).__name__}" if isinstance(value, dict | list) else value


def _one_of(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    if close:
        return f"no such section; did you mean {close[0]}?"
    return f"no such section; use one of: {', '.join(sorted(set(known) & set(_SECTIONS)))}"
