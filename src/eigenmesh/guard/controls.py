"""What people asked of a running mesh, over and above its settings, and what follows from it.

Everything here outlives a restart. Modes, pins and canaries become bounds of weights, so that the
optimiser works within them instead of being cut afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from eigenmesh.mesh import Bounds, GuardPolicy, MeshError, Plan, Topology


class Mode(StrEnum):
    """What may be done with a plan, the strictest first."""

    OBSERVE = "observe"
    """Recommend only."""
    APPROVE = "approve"
    """Every plan waits for a yes."""
    AUTO = "auto"
    """What the guard passes is pushed."""

    @property
    def freedom(self) -> int:
        return list(Mode).index(self)


@dataclass(frozen=True)
class Controls:
    """mode: of the whole mesh. routes, clusters: stricter modes of some routes' weights and some
    clusters' limits. paused: why nothing is pushed, empty if it is. frozen_until: unix seconds
    until which nothing is pushed. held: why the steering ended by itself, until it is resumed.
    pins: route -> cluster -> weight that it keeps. promoted: canaries (route, cluster) that are
    none any more. overrides: settings of the guard that were changed live, by their names.
    target: a plan that is gone back to, a step at a time, and why. told: what the settings last
    said of modes (`hear`).
    """

    mode: Mode = Mode.OBSERVE
    routes: Mapping[str, Mode] = field(default_factory=dict)
    clusters: Mapping[str, Mode] = field(default_factory=dict)
    paused: str = ""
    frozen_until: float = 0.0
    held: str = ""
    pins: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    promoted: frozenset[tuple[str, str]] = frozenset()
    overrides: Mapping[str, float] = field(default_factory=dict)
    target: Plan | None = None
    target_why: str = ""
    told: Mapping[str, str] = field(default_factory=dict)

    def mode_of_route(self, route: str) -> Mode:
        return _stricter(self.mode, self.routes.get(route, Mode.AUTO))

    def mode_of_cluster(self, cluster: str) -> Mode:
        return _stricter(self.mode, self.clusters.get(cluster, Mode.AUTO))

    def stops(self, now: float) -> str | None:
        """Why people, or their rules, have nothing pushed now."""
        if self.held:
            return f"held: {self.held}; `ctl resume` ends it"
        if self.paused:
            return f"paused: {self.paused}"
        if (left := self.frozen_until - now) > 0:
            return f"frozen for another {left:.0f} s"
        return None

    def to_dict(self) -> dict[str, Any]:
        return {
            "mode": self.mode.value,
            "routes": {name: mode.value for name, mode in self.routes.items()},
            "clusters": {name: mode.value for name, mode in self.clusters.items()},
            "paused": self.paused,
            "frozen_until": self.frozen_until,
            "held": self.held,
            "pins": {route: dict(pins) for route, pins in self.pins.items()},
            "promoted": sorted(map(list, self.promoted)),
            "overrides": dict(self.overrides),
            "target": self.target.to_dict() if self.target else None,
            "target_why": self.target_why,
            "told": dict(self.told),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Controls:
        return cls(
            Mode(data["mode"]),
            {name: Mode(mode) for name, mode in data["routes"].items()},
            {name: Mode(mode) for name, mode in data["clusters"].items()},
            data["paused"],
            data["frozen_until"],
            data["held"],
            data["pins"],
            frozenset((route, cluster) for route, cluster in data["promoted"]),
            data["overrides"],
            Plan.from_dict(target) if (target := data.get("target")) else None,
            data.get("target_why", ""),
            data.get("told", {}),
        )


def hear(controls: Controls, told: Mapping[str, str]) -> Controls:
    """The controls after the settings were read: what they say of a mode counts when it is new, and
    what was asked since when it is not. told: "" (the mesh), "route NAME", "cluster NAME" -> mode.
    """
    mode = controls.mode
    parts = {"route": dict(controls.routes), "cluster": dict(controls.clusters)}
    for key in told.keys() | controls.told.keys():
        said = told.get(key, Mode.AUTO.value)
        if said == controls.told.get(key, None if key == "" else Mode.AUTO.value):
            continue
        if key == "":
            mode = Mode(said)
            continue
        kind, _, name = key.partition(" ")
        parts[kind].pop(name, None)
        if Mode(said) is not Mode.AUTO:
            parts[kind][name] = Mode(said)
    return replace(
        controls, mode=mode, routes=parts["route"], clusters=parts["cluster"], told=dict(told)
    )


def known_part(controls: Controls, topology: Topology) -> Controls:
    """The controls without what the mesh does not have any more."""
    routes, clusters = topology.route_by_name, topology.by_name
    return replace(
        controls,
        routes={name: mode for name, mode in controls.routes.items() if name in routes},
        clusters={name: mode for name, mode in controls.clusters.items() if name in clusters},
        pins={
            route: pins
            for route, pins in controls.pins.items()
            if route in routes and set(pins) <= set(routes[route].clusters)
        },
    )


def _stricter(one: Mode, other: Mode) -> Mode:
    return min(one, other, key=lambda mode: mode.freedom)


def effective(policy: GuardPolicy, controls: Controls, plan: Plan) -> GuardPolicy:
    """The policy under these controls, with `plan` in force: pinned weights have one value, those
    of a route that is only observed the one they have, canaries that were not promoted a
    ceiling."""
    policy = replace(policy, **dict(controls.overrides))  # type: ignore[arg-type]
    bounds = dict(policy.cluster_bounds)
    for (route, cluster), most in policy.canaries.items():
        if (route, cluster) not in controls.promoted:
            own = policy.bounds_of(route, cluster)
            bounds[route, cluster] = Bounds(min(own.min_weight, most), most)
    for route, pins in controls.pins.items():
        for cluster, weight in pins.items():
            bounds[route, cluster] = Bounds(weight, weight)
    if controls.mode is not Mode.OBSERVE:
        # A mesh that is only observed has its whole plan recommended.
        for route, split in plan.weights.items():
            if controls.mode_of_route(route) is Mode.OBSERVE:
                for cluster, weight in split.items():
                    bounds[route, cluster] = Bounds(min(weight, 1.0), min(weight, 1.0))
    return replace(policy, cluster_bounds=bounds)


def unknown(topology: Topology, controls: Controls) -> Iterator[tuple[str, str]]:
    """(field, name) of what the controls name and the mesh does not have."""
    routes, clusters = topology.route_by_name, topology.by_name
    yield from (("routes", name) for name in controls.routes if name not in routes)
    yield from (("clusters", name) for name in controls.clusters if name not in clusters)
    for route, pins in controls.pins.items():
        if route not in routes:
            yield "pins", route
        else:
            members = routes[route].clusters
            yield from ((f"pins.{route}", name) for name in pins if name not in members)


def check_bounds(topology: Topology, policy: GuardPolicy) -> None:
    """Raises MeshError for a route whose bounds no split can meet."""
    for route in topology.routes:
        if len(route.clusters) < 2:
            continue  # its weight is 1 whatever they say
        bounds = [policy.bounds_of(route.name, cluster) for cluster in route.clusters]
        low, high = sum(b.min_weight for b in bounds), sum(b.max_weight for b in bounds)
        if low > 1.0 + 1e-9:
            raise MeshError(
                f"route {route.name}",
                f"{low:g}",
                "its smallest weights sum to more than 1: lower a pin, min_weight or probe_floor",
            )
        if high < 1.0 - 1e-9:
            raise MeshError(
                f"route {route.name}",
                f"{high:g}",
                "its largest weights sum to less than 1: raise a pin, a canary or max_weight",
            )


def part(plan: Plan, incumbent: Plan, controls: Controls, *modes: Mode) -> Plan:
    """`plan` where the mode is one of these, the incumbent elsewhere."""
    weights = {
        route: plan.weights.get(route, split) if controls.mode_of_route(route) in modes else split
        for route, split in incumbent.weights.items()
    }
    limits = dict(incumbent.limits)
    for cluster, limit in plan.limits.items():
        if controls.mode_of_cluster(cluster) in modes:
            limits[cluster] = limit
    return Plan(weights, limits)
