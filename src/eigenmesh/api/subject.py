"""The mesh that the API is about: by which names its parts are asked for, and what they show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from eigenmesh.api import convert
from eigenmesh.api.names import ANY, Kind, mesh_name, parse, resource_name
from eigenmesh.control.journal import Journal
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.operations import NotFoundError, Operations
from eigenmesh.control.proxies import Proxies
from eigenmesh.mesh import Decision, MeshError, Topology
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.xds.status import NodeStatus


@dataclass
class Subject:
    """The mesh that the API is about. id: its name in the settings. nodes: the Envoys that are
    connected. connected: how many they are, at less cost. proxies: their parts of the limits."""

    id: str
    loop: ControlLoop
    operations: Operations
    journal: Journal
    proxies: Proxies
    nodes: Callable[[], Sequence[NodeStatus]]
    connected: Callable[[], int]
    _last: tuple[Decision, asyncio.Future[pb.Decision]] | None = None

    @property
    def topology(self) -> Topology:
        return self.loop.settings.topology

    def named(self, name: str, *kinds: Kind | Literal[""], field: str = "name") -> tuple[str, str]:
        """(kind, id) of a resource of this mesh; see `names.parse`. Raises MeshError, and
        NotFoundError for another mesh's."""
        mesh, kind, id = parse(name, *kinds, field=field)
        if mesh not in (self.id, ANY):
            raise NotFoundError(f"{field}: this server steers {mesh_name(self.id)} and no other")
        return kind, id

    def known(self, kind: str, id: str) -> str:
        """The id, if the mesh has such a route or cluster. Raises NotFoundError."""
        names = self.topology.route_by_name if kind == "routes" else self.topology.steered_clusters
        if id not in names:
            some = ", ".join(list(names)[:10])
            raise NotFoundError(f"{kind}: {id[:100]!r}: not steered here; there are {some}")
        return id

    async def mesh(self) -> pb.Mesh:
        now, plan, latest = self.loop.clock(), self.loop.plan, self.loop.latest
        controls, pending = self.operations.controls, self.operations.pending
        message = pb.Mesh(
            name=mesh_name(self.id),
            id=self.id,
            mode=convert.MODES[controls.mode],
            controls=convert.controls_message(controls, now),
            plan_in_force=await asyncio.to_thread(convert.plan_message, plan),
            connected_nodes=self.connected(),
            division=self.proxies.basis,
            stopped=controls.stops(now) or "",
        )
        if pending is not None:
            message.pending_decision = resource_name("decisions", pending.number, self.id)
        if latest is not None:
            message.latest_decision.CopyFrom(await self.decision(latest))
        return message

    async def decision(self, decision: Decision) -> pb.Decision:
        """Not to be changed: whoever watches is shown the same message. Over a thousand clusters
        it takes some ten milliseconds to write, in which xDS has to be served: on a thread."""
        if self._last is None or self._last[0] is not decision:
            writing = asyncio.to_thread(convert.decision_message, decision, self.id)
            self._last = decision, asyncio.ensure_future(writing)
        return await asyncio.shield(self._last[1])

    def state(self) -> tuple[object, ...]:
        """Differs when there is something new to be shown."""
        latest, pending = self.loop.latest, self.operations.pending
        return (
            self.operations.controls,
            self.operations.controls.stops(self.loop.clock()) is None,
            id(self.loop.plan),
            latest and latest.number,
            pending and pending.number,
            self.connected(),
            self.proxies.basis,
        )


def number_of(id: str, *, field: str = "name") -> int:
    """Of a decision; from 1. Raises MeshError."""
    # SQLite has 63 bits; no mesh will make that many decisions.
    number = int(id) if id.isascii() and id.isdecimal() and len(id) < 20 else 0
    if not 0 < number < 2**63:
        raise MeshError(field, id, "end it with the number of a decision, from 1")
    return number
