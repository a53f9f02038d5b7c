"""Which routes split their traffic over which clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from eigenmesh.mesh.errors import MeshError


@dataclass(frozen=True, slots=True)
class Cluster:
    """An upstream cluster, by Envoy's name for it.

    `host` names the machine it shares with others (None: its own). `egress_cost` prices one
    request to it, in seconds of latency that the operator would accept instead.
    """

    name: str
    host: str | None = None
    egress_cost: float = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            raise MeshError("cluster.name", self.name, "give the cluster a name")
        if not self.egress_cost >= 0:
            raise MeshError(f"cluster.{self.name}.egress_cost", self.egress_cost, "use 0 or more")


@dataclass(frozen=True, slots=True)
class Route:
    """A route whose action is `weighted_clusters`; `name` is unique in the mesh."""

    name: str
    clusters: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.clusters:
            raise MeshError(f"route.{self.name}.clusters", [], "name at least one cluster")
        if len(set(self.clusters)) != len(self.clusters):
            raise MeshError(
                f"route.{self.name}.clusters", list(self.clusters), "name each cluster once"
            )


@dataclass(frozen=True)
class Topology:
    """Routes over clusters. Raises MeshError on duplicate names or an unknown cluster."""

    clusters: tuple[Cluster, ...]
    routes: tuple[Route, ...]

    def __post_init__(self) -> None:
        _unique("clusters", [c.name for c in self.clusters])
        _unique("routes", [r.name for r in self.routes])
        known = {c.name for c in self.clusters}
        for route in self.routes:
            for name in route.clusters:
                if name not in known:
                    raise MeshError(
                        f"route.{route.name}.clusters",
                        name,
                        f"define this cluster, or use one of: {', '.join(sorted(known))}",
                    )

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
    def steered_clusters(self) -> tuple[str, ...]:
        """Clusters that at least one route uses, in the topology's order."""
        used = {name for route in self.routes for name in route.clusters}
        return tuple(name for name in self.cluster_names if name in used)


def _unique(field: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise MeshError(field, name, "this name is used twice; make names unique")
        seen.add(name)
