"""Which Envoys are served what: groups of nodes, each with the operator's configuration for it.

One mesh may have proxies of several kinds, say at the edge and between services. Their routes are
steered together, since they share clusters; a route of a group with a configuration of its own is
called `<group>:<route>`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from eigenmesh.control.strict import Strict
from eigenmesh.mesh import BreakerLimits, Cluster, MeshError, Plan, Topology
from eigenmesh.xds.node import DEFAULT_GROUP, Grouping, NodeMatch
from eigenmesh.xds.operator import OperatorConfig, RouteStats


class MatchSettings(Strict):
    """Shell patterns over config.core.v3.Node, all of which must fit; see NodeMatch."""

    id: str = "*"
    """Of the node's id."""
    cluster: str = "*"
    """Of its cluster."""
    region: str = "*"
    """Of its locality."""
    zone: str = "*"
    """Of its locality."""
    sub_zone: str = "*"
    """Of its locality."""
    metadata: dict[str, str] = {}
    """Path into its metadata, such as `labels.tier` -> pattern."""


class GroupSettings(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Its routes are called NAME:ROUTE if it has an `envoy` of its own."""
    match: MatchSettings
    """Shell patterns over the node, all of which must fit."""
    envoy: dict[str, Any] | None = None
    """What this group is served; unset: the document's own `envoy`."""
    steer: list[str] | None = None
    """Like the document's `steer`, for this group's `envoy`."""


Parse = Callable[[Mapping[str, Any], Sequence[str] | None, str, str], OperatorConfig]
"""(document, steer, source, prefix of route names) -> what `parse_operator` makes of it"""


@dataclass(frozen=True)
class Groups:
    """operators: configuration by group. Groups may share one."""

    grouping: Grouping
    operators: Mapping[str, OperatorConfig]

    @property
    def distinct(self) -> tuple[tuple[OperatorConfig, tuple[str, ...]], ...]:
        """Each configuration, and the groups that are served it."""
        found: dict[int, tuple[OperatorConfig, list[str]]] = {}
        for group, operator in self.operators.items():
            found.setdefault(id(operator), (operator, []))[1].append(group)
        return tuple((operator, tuple(names)) for operator, names in found.values())

    def topology(self) -> Topology:
        """Every cluster and every steered route of the mesh."""
        tops = [operator.topology() for operator, _ in self.distinct]
        # One mesh, one plan: a filter in front of a cluster in one group keeps it still in all.
        adaptive = frozenset[str]().union(*(top.adaptive for top in tops))
        clusters = {c.name: c for top in tops for c in top.clusters}
        clusters |= {name: Cluster(name, adaptive=True) for name in adaptive}
        return Topology(tuple(clusters.values()), tuple(r for top in tops for r in top.routes))

    def original_plan(self) -> Plan:
        """The operator's own weights and thresholds."""
        plans = [operator.original_plan() for operator, _ in self.distinct]
        return Plan(
            {route: split for plan in plans for route, split in plan.weights.items()},
            {cluster: limits for plan in plans for cluster, limits in plan.limits.items()},
        )

    def route_stats(self) -> dict[str, RouteStats]:
        return {n: s for operator, _ in self.distinct for n, s in operator.route_stats().items()}

    def stat_names(self) -> dict[str, str]:
        return {n: s for operator, _ in self.distinct for n, s in operator.stat_names().items()}

    def ejecting(self) -> dict[str, str]:
        return {n: t for operator, _ in self.distinct for n, t in operator.ejecting().items()}

    @property
    def left_alone(self) -> tuple[str, ...]:
        return tuple(line for operator, _ in self.distinct for line in operator.left_alone)


def part_of(plan: Plan, operator: OperatorConfig) -> Plan:
    """What of the mesh's plan concerns one group's configuration."""
    top = operator.topology()
    return Plan(
        {r.name: plan.weights[r.name] for r in top.routes if r.name in plan.weights},
        {c: plan.limits[c] for c in top.steered_clusters if c in plan.limits},
    )


def resolve(
    settings: Sequence[GroupSettings],
    *,
    default: OperatorConfig,
    refuse_unknown: bool,
    parse: Parse,
) -> Groups:
    """default: the document's own configuration. Raises MeshError."""
    operators = {DEFAULT_GROUP: default}
    for index, group in enumerate(settings):
        if group.name in operators:
            raise MeshError(f"groups[{index}].name", group.name, "give every group its own name")
        if group.envoy is not None:
            source, prefix = f"groups[{index}].envoy", f"{group.name}:"
            operators[group.name] = parse(group.envoy, group.steer, source, prefix)
        elif group.steer is not None:
            remedy = "give this group's own `envoy` too, or use the document's `steer`"
            raise MeshError(f"groups[{index}].steer", group.steer, remedy)
        else:
            operators[group.name] = default
    grouping = Grouping(
        tuple((g.name, NodeMatch(**g.match.model_dump())) for g in settings),
        strangers=None if refuse_unknown else DEFAULT_GROUP,
    )
    groups = Groups(grouping, operators)
    _check(groups)
    return groups


def _check(groups: Groups) -> None:
    """One mesh: its statistics must tell routes apart, and a cluster has one set of limits."""
    counted: dict[RouteStats, str] = {}
    limits: dict[str, tuple[str, BreakerLimits | None]] = {}
    for operator, (group, *_) in groups.distinct:
        for route, stats in operator.route_stats().items():
            if (other := counted.setdefault(stats, route)) != route:
                remedy = f"{other} is counted under the same stat_prefix; give one another"
                raise MeshError(f"route {route}", stats.stat_prefix, remedy)
        for cluster in operator.topology().steered_clusters:
            own = operator.own_limits.get(cluster)
            first, other_limits = limits.setdefault(cluster, (group, own))
            if own != other_limits:
                remedy = f"group {first} has others; a steered cluster needs the same in all"
                raise MeshError(f"cluster {cluster}: circuit_breakers in {group}", own, remedy)
