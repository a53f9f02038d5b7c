"""Which routes split their traffic over which clusters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from eigenmesh.mesh.errors import MeshError


@dataclass(frozen=True, slots=True)
class Call:
    """Requests that a cluster makes on a route for each request that it gets, one after the other.

    ratio: how many; None: not told, to be learned, and 0 until then.
    """

    route: str
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """An upstream cluster, by Envoy's name for it.

    `host` names the machine it shares with others (None: its own). `egress_cost` prices one
    request to it, in seconds of latency that the operator would accept instead. `calls` are made
    through this mesh, in the course of answering. `adaptive`: the proxy itself adapts how many
    requests it has in flight, so that its limits are not ours to move.
    """

    name: str
    host: str | None = None
    egress_cost: float = 0.0
    calls: tuple[Call, ...] = ()
    adaptive: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise MeshError("cluster.name", self.name, "give the cluster a name")
        if not self.egress_cost >= 0:
            raise MeshError(f"cluster.{self.name}.egress_cost", self.egress_cost, "use 0 or more")
        _unique(f"cluster.{self.name}.calls", [call.route for call in self.calls])
        for call in self.calls:
            if call.ratio is not None and not (math.isfinite(call.ratio) and call.ratio >= 0):
                field = f"cluster.{self.name}.calls.{call.route}"
                raise MeshError(field, call.ratio, "use a finite number of 0 or more")


@dataclass(frozen=True, slots=True)
class Host:
    """A machine that clusters share; see `coupling.Pools`.

    coupling: 0 (they do not feel each other) to 1 (one pool); None: not told, to be learned, and
    0 until then.
    """

    name: str
    coupling: float | None = None

    def __post_init__(self) -> None:
        if self.coupling is not None and not 0.0 <= self.coupling <= 1.0:
            raise MeshError(f"host.{self.name}.coupling", self.coupling, "use a number from 0 to 1")


@dataclass(frozen=True, slots=True)
class Retries:
    """What Envoy does with failed attempts: at most `most` more, in the cluster of the first.

    per_try_timeout: seconds after which an attempt has failed; None: it is waited for. Source:
    Envoy, config.route.v3.RetryPolicy.
    """

    most: int = 0
    per_try_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.most < 0:
            raise MeshError("retries.most", self.most, "use 0 or more")
        if self.per_try_timeout is not None and not self.per_try_timeout > 0:
            raise MeshError("retries.per_try_timeout", self.per_try_timeout, "use seconds above 0")


@dataclass(frozen=True, slots=True)
class Route:
    """A route to one or more clusters; `name` is unique in the mesh."""

    name: str
    clusters: tuple[str, ...]
    retries: Retries = Retries()

    def __post_init__(self) -> None:
        if not self.clusters:
            raise MeshError(f"route.{self.name}.clusters", [], "name at least one cluster")
        if len(set(self.clusters)) != len(self.clusters):
            raise MeshError(
                f"route.{self.name}.clusters", list(self.clusters), "name each cluster once"
            )


@dataclass(frozen=True)
class Topology:
    """Routes over clusters. A host that `hosts` leaves out has a coupling to be learned.

    Raises MeshError on duplicate or unknown names, and when calls run in a circle.
    """

    clusters: tuple[Cluster, ...]
    routes: tuple[Route, ...]
    hosts: tuple[Host, ...] = ()

    def __post_init__(self) -> None:
        _unique("clusters", [c.name for c in self.clusters])
        _unique("routes", [r.name for r in self.routes])
        _unique("hosts", [h.name for h in self.hosts])
        known = {c.name for c in self.clusters}
        for route in self.routes:
            for name in route.clusters:
                if name not in known:
                    raise MeshError(
                        f"route.{route.name}.clusters",
                        name,
                        f"define this cluster, or use one of: {', '.join(sorted(known))}",
                    )
        for cluster in self.clusters:
            for call in cluster.calls:
                if call.route not in self.route_by_name:
                    raise MeshError(
                        f"cluster.{cluster.name}.calls",
                        call.route,
                        f"use one of: {', '.join(self.route_by_name)}",
                    )
        for called in self.route_by_name:
            unknown = [
                c.name
                for c in self.clusters
                for call in c.calls
                if call.route == called and call.ratio is None
            ]
            if len(unknown) > 1:
                remedy = f"several call {called}: tell the ratios of all but one"
                raise MeshError("cluster.calls", unknown, remedy)
        self._refuse_circles()

    def _refuse_circles(self) -> None:
        callers = {c.name for c in self.clusters if c.calls}
        done: set[str] = set()

        def visit(route: str, path: tuple[str, ...]) -> None:
            if route in path:
                circle = " -> ".join((*path[path.index(route) :], route))
                raise MeshError("cluster.calls", circle, "calls run in a circle; leave one out")
            if route in done:
                return
            for name in self.route_by_name[route].clusters:
                for call in self.by_name[name].calls if name in callers else ():
                    visit(call.route, (*path, route))
            done.add(route)

        # Only what is called can be in a circle, and chains of calls are short.
        for name in callers:
            for call in self.by_name[name].calls:
                visit(call.route, ())

    @cached_property
    def cluster_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.clusters)

    @cached_property
    def by_name(self) -> Mapping[str, Cluster]:
        return {c.name: c for c in self.clusters}

    @cached_property
    def route_by_name(self) -> Mapping[str, Route]:
        return {r.name: r for r in self.routes}

    @cached_property
    def shared_hosts(self) -> Mapping[str, tuple[str, ...]]:
        """Host -> its steered clusters, where there are several."""
        found: dict[str, list[str]] = {}
        for name in self.steered_clusters:
            if (host := self.by_name[name].host) is not None:
                found.setdefault(host, []).append(name)
        return {host: tuple(names) for host, names in found.items() if len(names) > 1}

    @cached_property
    def couplings(self) -> Mapping[str, float | None]:
        """Shared host -> its coupling; None where it is to be learned."""
        told = {h.name: h.coupling for h in self.hosts}
        return {host: told.get(host) for host in self.shared_hosts}

    @cached_property
    def strengths(self) -> Mapping[str, float]:
        """All couplings that are known, for people to read: `host NAME` -> coupling,
        `CLUSTER calls ROUTE` -> requests."""
        hosts = {f"host {name}": value for name, value in self.couplings.items()}
        calls = {
            f"{c.name} calls {call.route}": call.ratio for c in self.clusters for call in c.calls
        }
        return {name: value for name, value in {**hosts, **calls}.items() if value is not None}

    def with_learned(
        self, couplings: Mapping[str, float], ratios: Mapping[tuple[str, str], float]
    ) -> Topology:
        """The same mesh with what was learned in place of what was not told.

        couplings: host -> coupling. ratios: (cluster, route) -> calls per request.
        """
        if not couplings and not ratios:
            return self
        hosts = {h.name: h for h in self.hosts}
        for name, coupling in couplings.items():
            if name not in hosts or hosts[name].coupling is None:
                hosts[name] = Host(name, coupling)
        clusters = tuple(
            replace(
                c,
                calls=tuple(
                    replace(call, ratio=ratios.get((c.name, call.route), call.ratio))
                    if call.ratio is None
                    else call
                    for call in c.calls
                ),
            )
            if c.calls
            else c
            for c in self.clusters
        )
        return Topology(clusters, self.routes, tuple(hosts.values()))

    @cached_property
    def steered_clusters(self) -> tuple[str, ...]:
        """Clusters that at least one route uses, in the topology's order."""
        used = {name for route in self.routes for name in route.clusters}
        return tuple(name for name in self.cluster_names if name in used)

    @cached_property
    def adaptive(self) -> frozenset[str]:
        """Clusters whose limits are not to be moved (`Cluster.adaptive`)."""
        return frozenset(c.name for c in self.clusters if c.adaptive)


def _unique(field: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise MeshError(field, name, "this name is used twice; make names unique")
        seen.add(name)
