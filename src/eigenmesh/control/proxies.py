"""Serves every Envoy its own part of the plan's limits.

`Fleet` decides who may have how much; here that meets the xDS server, the observation and the
journal. A proxy counts from when it first asks for its runtime layer, since only then it is told
limits, until its stream is closed and the telemetry has not heard of it either: an Envoy that lost
its control plane serves on.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from eigenmesh.control.fleet import Fleet, Grants
from eigenmesh.mesh import Observation, Plan
from eigenmesh.mesh.division import shares
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.resource import RUNTIME, Resource
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.snapshot import TypeSet

log = structlog.get_logger(__name__)

AWAY = 0.5
"""Of the interval: an Envoy that is away for less may only be connecting anew."""
RESUMED = 10.0
"""Seconds in which Envoys find their way back to an Eigenmesh that restarted."""
AT_ONCE = 16
"""Layers that are made before the event loop gets another turn."""


class Content(Protocol):
    """What some groups are served (`sidecar`)."""

    groups: tuple[str, ...]
    clusters: tuple[str, ...]

    def layer(self, plan: Plan, grants: Grants | None = None) -> Resource:
        """The runtime layer under the plan, with these limits (max_requests by cluster)."""
        ...

    def divided(self, plan: Plan) -> Mapping[str, int]:
        """Cluster -> limit, where it is Eigenmesh's and not the operator's own."""
        ...


class Proxies:
    """contents: by group. interval: seconds between observations. resumed: see `Fleet`."""

    def __init__(
        self,
        contents: Sequence[Content],
        xds: XdsServer,
        *,
        interval: float,
        resumed: Mapping[str, Mapping[str, int]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._xds = xds
        self._fleet = Fleet(resumed)
        self._groups: dict[str, str] = {}
        self.serve(contents, interval)
        self._clock = clock
        self._away = dict.fromkeys(resumed or {}, clock() + RESUMED)
        self._requests: dict[str, dict[str, float]] = {}
        self._named = False
        self._plan = Plan({}, {})
        self._limits: dict[str, int] = {}

    @property
    def grants(self) -> dict[str, Grants]:
        """Node -> cluster -> requests in flight that it may have."""
        return {node: self._fleet.grants(node) for node in sorted(self._fleet.members)}

    @property
    def basis(self) -> str:
        """What the division rests on, for people."""
        if len(self._fleet.members) < 2:
            return ""
        if self._named:
            return "divided by each Envoy's share of the traffic"
        return (
            "divided evenly: the telemetry does not tell which proxy is which node "
            "(telemetry.prometheus.node_label)"
        )

    def to_dict(self) -> dict[str, Grants]:
        """What a restart resumes with."""
        return self._fleet.to_dict()

    def serve(self, contents: Sequence[Content], interval: float) -> None:
        """The groups are served these from the next `put` on."""
        self._contents = {group: c for c in contents for group in c.groups}
        self._interval = interval
        for node, group in self._groups.items():
            self._fleet.sends(node, self._contents[group].clusters)

    def put(self, plan: Plan) -> None:
        """The plan is in force: aims at its limits. Publish `own` with it."""
        self._plan = plan
        limits: dict[str, int] = {}
        for content in self._contents.values():
            for cluster, limit in content.divided(plan).items():
                limits[cluster] = limit
        self._limits = limits
        self._fleet.aim(limits, self._fractions())

    def own(self, group: str) -> dict[str, Resource]:
        """The runtime layers of the group's members; they count as told. After a restart any
        member may be of any group: who comes back is to find what it has."""
        members = [n for n in self._fleet.members if self._groups.get(n, group) == group]
        return self._layers(members, group)

    def on_event(self, event: XdsEvent) -> None:
        """Called by the server, before it answers."""
        node = event.node_id
        if event.kind == "subscribe" and event.type_url == RUNTIME:
            self._join(node, event.group)
        elif event.kind == "disconnect":
            if node in self._fleet.members and not self._xds.peers(node, RUNTIME):
                self._fleet.leave(node)
                self._away.setdefault(node, self._clock())
        elif (
            event.kind == "ack"
            and event.type_url == RUNTIME
            and self._fleet.took(node, event.version)
        ):
            self._tell(self._fleet.regrant())

    async def observed(self, seen: Observation) -> None:
        """Follows the shares of the traffic, and gives on what proxies that are gone had."""
        names = {proxy: seen.nodes.get(proxy, proxy) for proxy in seen.proxies}
        alive = {node for node in names.values() if node in self._fleet.members}
        now = self._clock()
        for node in self._fleet.away():
            since = self._away.setdefault(node, now)
            if node not in alive and now - since >= AWAY * self._interval:
                log.info("an Envoy is gone; the others have its part of the limits", node=node)
                self._fleet.release(node)
                self._away.pop(node, None)
                self._groups.pop(node, None)
        if seen.proxies:
            self._named = bool(alive)
        if alive:
            requests: dict[str, dict[str, float]] = defaultdict(dict)
            for proxy, loads in seen.proxies.items():
                for cluster, load in loads.items():
                    part = requests[cluster]
                    node = names[proxy]
                    part[node] = part.get(node, 0.0) + load.load * seen.window
            self._requests = dict(requests)
        changed = self._fleet.aim(self._limits, self._fractions())
        # Who was told nothing because others did not answer has waited long enough.
        changed |= self._fleet.regrant(least=1)
        await self._tell_many(changed)

    def _fractions(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for cluster in self._limits:
            members = self._fleet.senders(cluster)
            if seen := self._requests.get(cluster):
                found[cluster] = shares(seen, members)
            elif members:
                found[cluster] = _as_before(
                    {node: self._fleet.grants(node).get(cluster, 0) for node in members}
                )
        return found

    def _join(self, node: str, group: str) -> None:
        content = self._contents.get(group)
        if content is None:
            return
        if (peers := self._xds.peers(node, RUNTIME)) > 1:
            log.warning(
                "Envoys share a node id and so its part of the limits; give each its own",
                node=node,
                envoys=peers,
            )
        self._groups[node] = group
        self._away.pop(node, None)
        self._fleet.join(node, content.clusters)
        changed = self._fleet.aim(self._limits, self._fractions())
        self._tell(changed | {node})

    def _tell(self, nodes: Iterable[str]) -> None:
        by_group: dict[str, list[str]] = defaultdict(list)
        for node in nodes:
            if (group := self._groups.get(node)) is not None:
                by_group[group].append(node)
        for group, members in by_group.items():
            self._xds.tailor(self._layers(members, group), group)

    async def _tell_many(self, nodes: frozenset[str]) -> None:
        ordered = sorted(nodes)
        for start in range(0, len(ordered), AT_ONCE):
            self._tell(ordered[start : start + AT_ONCE])
            # A thousand layers take a second: the loop must serve meanwhile.
            await asyncio.sleep(0)

    def _layers(self, nodes: Iterable[str], group: str) -> dict[str, Resource]:
        made = {}
        for node in nodes:
            grants = self._fleet.grants(node)
            if (peers := self._xds.peers(node, RUNTIME)) > 1:
                grants = {cluster: limit // peers for cluster, limit in grants.items()}
            layer = self._contents[group].layer(self._plan, grants)
            self._fleet.told(node, TypeSet(RUNTIME, {layer.name: layer}).version)
            made[node] = layer
        return made


def _as_before(granted: Mapping[str, int]) -> dict[str, float]:
    """Fractions for want of anything known of the traffic: an even one for who has nothing yet,
    of the rest what everyone has now."""
    total, new = sum(granted.values()), sum(not part for part in granted.values())
    rest = 1.0 - new / len(granted)
    return {n: rest * part / total if part else 1.0 / len(granted) for n, part in granted.items()}
