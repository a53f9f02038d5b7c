"""Makes the operator's resources refer to each other over ADS, and checks that they do.

- An inline `route_config` becomes a RouteConfiguration of its own, fetched by RDS: a change of
  weights then never touches its listener, whose change would drain connections.
- `rds`, EDS clusters, secrets and `config_discovery` whose content the operator gave are fetched
  over ADS; those with a source of their own keep it.
- Every Any is put into canonical form, since its bytes are hashed.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.config_source_pb2 import ApiVersion, ConfigSource
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from eigenmesh.xds.protos import OperatorError, walk
from eigenmesh.xds.resource import CLUSTER, ENDPOINT, Key, Resource

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_SDS = "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"
ROUTED = {
    "envoy.config.route.v3.RouteAction": "cluster",
    "envoy.config.route.v3.WeightedCluster.ClusterWeight": "name",
    "envoy.config.route.v3.RouteAction.RequestMirrorPolicy": "cluster",
}
"""Messages whose field names a cluster that a route sends requests to."""
_USED = {
    "envoy.config.core.v3.GrpcService.EnvoyGrpc": "cluster_name",
    "envoy.config.core.v3.HttpUri": "cluster",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": "cluster",
    "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight": "name",
}
"""The same for what listeners use."""

Located = tuple[str, Any]
"""(path in the document, message)"""


class Rewrite:
    """One document. `routes` grows by the inline tables; `left` tells what was not touched."""

    def __init__(
        self,
        *,
        clusters: set[str],
        secrets: set[str],
        endpoints: set[str],
        extensions: set[str],
        routes: Iterable[tuple[str, RouteConfiguration]],
    ) -> None:
        self._clusters = clusters
        self._secrets = secrets
        self._endpoints = endpoints
        self._extensions = extensions
        self.routes: list[tuple[str, RouteConfiguration]] = list(routes)
        self.left: list[str] = []

    def listeners(self, located: list[Located]) -> list[Resource]:
        """The listeners, their inline tables moved to `routes`."""
        own = {config.name for _, config in self.routes}
        names = _table_names(located, own)
        made = []
        for path, listener in located:
            needs: set[Key] = set()

            def visit(message: Any, at: str, needs: set[Key] = needs) -> None:
                if message.DESCRIPTOR.full_name == MANAGER:
                    self._manager(message, at, names)
                self._refer(message, at, needs)

            walk(listener, path, visit)
            made.append(Resource.of(listener, listener.name, needs=frozenset(needs)))
        return made

    def extensions(self, located: list[Located]) -> list[Resource]:
        """What filters fetch by `config_discovery`."""
        made = []
        for path, extension in located:
            needs: set[Key] = set()

            def visit(message: Any, at: str, needs: set[Key] = needs) -> None:
                self._refer(message, at, needs)

            walk(extension, path, visit)
            made.append(Resource.of(extension, extension.name, needs=frozenset(needs)))
        return made

    def _refer(self, message: Any, path: str, needs: set[Key]) -> None:
        """What the message refers to: clusters go to `needs`, the rest is fetched over ADS."""
        kind = message.DESCRIPTOR.full_name
        if kind in _USED and (cluster := getattr(message, _USED[kind])) in self._clusters:
            needs.add((CLUSTER, cluster))
        if "config_discovery" in message.DESCRIPTOR.fields_by_name:
            self._discovery(message, path)
        self._secret(message)

    def _discovery(self, message: Any, path: str) -> None:
        """A filter whose configuration comes by ECDS, under the filter's own name."""
        if not message.HasField("config_discovery"):
            return
        source, name = message.config_discovery.config_source, message.name
        if name in self._extensions:
            _over_ads(source)
        elif _is_ads(source):
            at = f"{path}.config_discovery"
            raise OperatorError(at, name, "give this configuration under extension_configs")
        else:
            self.left.append(f"extension {name}: it comes from a source of its own ({path})")

    def _manager(self, manager: Any, path: str, names: Iterator[str]) -> None:
        kind = manager.WhichOneof("route_specifier")
        if kind == "route_config":
            table = copy.deepcopy(manager.route_config)
            table.name = next(names)
            self.routes.append((f"{path}.route_config", table))
            manager.rds.route_config_name = table.name
            _over_ads(manager.rds.config_source)
        elif kind == "rds":
            source, name = manager.rds.config_source, manager.rds.route_config_name
            if name in {config.name for _, config in self.routes}:
                _over_ads(source)
            elif _is_ads(source):
                at = f"{path}.rds.route_config_name"
                raise OperatorError(at, name, "give this RouteConfiguration under routes")
            else:
                self.left.append(f"routes {name}: they come from a source of their own ({path})")
        elif kind == "scoped_routes":
            self.left.append(f"scoped routes: served as they are ({path})")

    def cluster_resources(self, located: list[Located]) -> list[Resource]:
        made = []
        for path, cluster in located:
            warms = self._endpoints_of(path, cluster)
            walk(cluster, path, lambda message, _: self._secret(message))
            made.append(Resource.of(cluster, cluster.name, warms=warms))
        return made

    def _endpoints_of(self, path: str, cluster: Cluster) -> frozenset[Key]:
        if cluster.WhichOneof("cluster_discovery_type") == "cluster_type":
            return frozenset()
        if cluster.type != Cluster.DiscoveryType.EDS:
            return frozenset()
        eds = cluster.eds_cluster_config
        name = eds.service_name or cluster.name
        if name in self._endpoints:
            _over_ads(eds.eds_config)
        elif not eds.HasField("eds_config") or _is_ads(eds.eds_config):
            at = f"{path}.eds_cluster_config"
            raise OperatorError(at, name, "give its ClusterLoadAssignment under endpoints")
        else:
            self.left.append(f"endpoints {name}: they come from a source of their own ({path})")
            return frozenset()
        return frozenset({(ENDPOINT, name)})

    def plain(self, located: list[Located], name: str) -> list[Resource]:
        """Resources that refer to no other."""
        for path, message in located:
            walk(message, path, lambda _m, _p: None)
        return [Resource.of(message, getattr(message, name)) for _, message in located]

    def check_routes(self, path: str, table: RouteConfiguration) -> frozenset[Key]:
        """The clusters that a table sends to. Raises OperatorError if one is not defined: Envoy
        accepts such a route and answers it with 503."""
        needs: set[Key] = set()

        def visit(message: Any, at: str) -> None:
            field = ROUTED.get(message.DESCRIPTOR.full_name)
            if field is None or not (cluster := getattr(message, field)):
                return
            if cluster not in self._clusters:
                known = ", ".join(sorted(self._clusters)) or "none is defined"
                remedy = f"define this cluster, or use one of: {known}"
                raise OperatorError(f"{at}.{field}", cluster, remedy)
            needs.add((CLUSTER, cluster))

        walk(table, path, visit)
        return frozenset(needs)

    def _secret(self, message: Any) -> None:
        """In an envoy.yaml a secret without a source is one of the static secrets."""
        if (
            message.DESCRIPTOR.full_name == _SDS
            and message.name in self._secrets
            and not message.HasField("sds_config")
        ):
            _over_ads(message.sds_config)


def inline_tables(listeners: list[Located], given: set[str]) -> tuple[list[Located], list[str]]:
    """The route configurations that stand in listeners, under the names that `Rewrite` gives them,
    and a line for each that is fetched and not among the `given`: for overlay mode, in which
    whatever a document lacks may well be with the other control plane."""
    names = _table_names(listeners, given)
    tables: list[Located] = []
    left = []

    def visit(message: Any, at: str) -> bool:
        if message.DESCRIPTOR.full_name != MANAGER:
            return True
        kind = message.WhichOneof("route_specifier")
        if kind == "route_config":
            table = message.route_config
            table.name = next(names)
            tables.append((f"{at}.route_config", table))
        elif kind == "rds" and (name := message.rds.route_config_name) not in given:
            left.append(f"routes {name}: not known here ({at}): give them under routes")
        return False

    for path, listener in listeners:
        walk(listener, path, visit)
    return tables, left


def _table_names(listeners: list[Located], taken: set[str]) -> Iterator[str]:
    """Names for the inline tables, in order: their own, and with the listener's before it where
    that is used twice (every example calls its table `local_route`)."""
    inline: list[tuple[str, str]] = []
    for path, listener in listeners:

        def visit(message: Any, _: str, listener: Any = listener) -> bool:
            if message.DESCRIPTOR.full_name != MANAGER:
                return True
            if message.WhichOneof("route_specifier") == "route_config":
                inline.append((listener.name, message.route_config.name))
            return False

        walk(listener, path, visit)
    times = Counter(name for _, name in inline)
    used = set(taken)
    names = []
    for listener, name in inline:
        best = name if name and times[name] == 1 and name not in taken else ""
        best = best or (f"{listener}/{name}" if name else listener)
        candidate, number = best, 1
        while candidate in used:
            number += 1
            candidate = f"{best}#{number}"
        used.add(candidate)
        names.append(candidate)
    return iter(names)


def _over_ads(source: ConfigSource) -> None:
    source.Clear()
    source.resource_api_version = ApiVersion.V3
    source.ads.SetInParent()


def _is_ads(source: ConfigSource) -> bool:
    return bool(source.WhichOneof("config_source_specifier") == "ads")
