"""The API before a real loop, journal and solvers; only the queues and the Envoys are simulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eigenmesh.api.client import ClientTls, MeshClient
from eigenmesh.api.server import ApiServer
from eigenmesh.api.subject import Subject
from eigenmesh.control.api_settings import ApiListen
from eigenmesh.control.journal import Journal
from eigenmesh.control.operations import Operations
from eigenmesh.control.proxies import Proxies
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.status import NodeStatus, TypeStatus

from ..control.meshes import Simulation


@dataclass
class Stage:
    """calls: how often each method was answered with each code."""

    simulation: Simulation
    journal: Journal
    operations: Operations
    nodes: list[NodeStatus] = field(default_factory=list)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self, token: str | None = None, tls: ClientTls | None = None) -> MeshClient:
        return MeshClient(self.address, token=token, tls=tls, timeout=20.0)


@asynccontextmanager
async def serving(folder: Path, ticks: int = 4, **settings: Any) -> AsyncIterator[Stage]:
    """settings: of `api`; by default anybody on this machine may do anything."""
    journal = Journal(folder / "journal.sqlite")
    simulation = Simulation(journal)
    loop = simulation.loop
    original = loop.plan
    operations = Operations(loop, journal, original=original)
    stage = Stage(simulation, journal, operations)
    subject = Subject(
        id="shop-mesh",
        loop=loop,
        operations=operations,
        journal=journal,
        proxies=Proxies([], XdsServer(), interval=2.0),
        nodes=lambda: stage.nodes,
        connected=lambda: len(stage.nodes),
    )

    def count(method: str, code: str) -> None:
        stage.calls[method, code] += 1

    server = ApiServer(
        ApiListen.model_validate({"listen": "127.0.0.1:0", **settings}), subject, count
    )
    stage.port = await server.start()
    try:
        for _ in range(ticks):
            await simulation.tick()
        yield stage
    finally:
        await server.stop(0.0)
        journal.close()


def envoy(id: str, peer: str = "ipv4:127.0.0.1:1") -> NodeStatus:
    runtime = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
    held = TypeStatus(runtime, ("eigenmesh",), False, "v1", "v1", "", 0, 1.5)
    return NodeStatus(id, "edge", "default", peer, 60.0, (held,))
