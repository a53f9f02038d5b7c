"""MeshService over grpc.aio, with the standard health and reflection services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from eigenmesh.api.convert import MODES, decision_message, node_message, plan_message
from eigenmesh.api.names import id_of, mesh_name
from eigenmesh.control.journal import Journal, JournalError, JournalWriteError
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.loop import Mode as LoopMode
from eigenmesh.control.proxies import Proxies
from eigenmesh.guard.controls import Mode
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import mesh_service_pb2 as reads
from eigenmesh.v1 import mesh_service_pb2_grpc, operations_service_pb2_grpc
from eigenmesh.v1 import operations_service_pb2 as writes
from eigenmesh.xds.status import NodeStatus

SERVICE = "eigenmesh.v1.MeshService"
OPERATIONS = "eigenmesh.v1.OperationsService"

_MODE_NAMES: dict[int, LoopMode] = {pb.MODE_OBSERVE: "observe", pb.MODE_AUTO: "auto"}


class MeshServicer(
    mesh_service_pb2_grpc.MeshServiceServicer, operations_service_pb2_grpc.OperationsServiceServicer
):
    """`nodes` lists the Envoys that are connected, `proxies` their parts of the limits."""

    def __init__(
        self,
        name: str,
        loop: ControlLoop,
        nodes: Callable[[], Sequence[NodeStatus]],
        journal: Journal,
        proxies: Proxies,
    ) -> None:
        self._name = name
        self._loop = loop
        self._nodes = nodes
        self._journal = journal
        self._proxies = proxies

    async def GetMesh(  # noqa: N802 (the name is the proto's)
        self, request: reads.GetMeshRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Mesh:
        return self._mesh()

    async def WatchDecisions(  # noqa: N802
        self, request: reads.WatchDecisionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.Decision]:
        async for decision in self._loop.watch():
            yield decision_message(decision, self._name)

    async def GetDecision(  # noqa: N802
        self, request: reads.GetDecisionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Decision:
        decision = self._loop.latest
        wanted = id_of(request.name)
        number = int(wanted) if wanted.isdecimal() else 0
        if number and (decision is None or number != decision.number):
            try:
                # SQLite has 63 bits; no mesh will make that many decisions.
                number = min(number, 2**63 - 1)
                decision = await asyncio.to_thread(self._journal.decision, number)
            except JournalError as error:
                await context.abort(grpc.StatusCode.DATA_LOSS, str(error))
        if decision is None:
            found = "not in the journal" if number else "none made yet"
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"name: {request.name}: {found}; `latest` is the latest"
            )
        assert decision is not None
        return decision_message(decision, self._name)

    async def ListNodes(  # noqa: N802
        self, request: reads.ListNodesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> reads.ListNodesResponse:
        grants = self._proxies.grants
        return reads.ListNodesResponse(
            nodes=[node_message(n, grants.get(n.node_id, {}), self._name) for n in self._nodes()]
        )

    async def SetMode(  # noqa: N802
        self, request: writes.SetModeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.Mesh:
        mode = _MODE_NAMES.get(request.mode)
        if mode is None:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"mode: {request.mode}: use MODE_OBSERVE or MODE_AUTO",
            )
        assert mode is not None
        try:
            await self._loop.set_mode(mode)
        except JournalWriteError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return self._mesh()

    def _mesh(self) -> pb.Mesh:
        mode = MODES[Mode(self._loop.mode)]
        mesh = pb.Mesh(
            name=mesh_name(self._name),
            id=self._name,
            mode=mode,
            controls=pb.Controls(mode=mode),
            plan_in_force=plan_message(self._loop.plan),
            connected_nodes=len(self._nodes()),
            division=self._proxies.basis,
        )
        if self._loop.latest is not None:
            mesh.latest_decision.CopyFrom(decision_message(self._loop.latest, self._name))
        return mesh


class ApiServer:
    """`port` is the bound port after `start`."""

    def __init__(self, listen: str, servicer: MeshServicer) -> None:
        self._listen = listen
        # Without so_reuseport=0 a second server would share the port unseen.
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(servicer, self._server)  # type: ignore[no-untyped-call]
        operations_service_pb2_grpc.add_OperationsServiceServicer_to_server(  # type: ignore[no-untyped-call]
            servicer, self._server
        )
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (SERVICE, OPERATIONS, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self.port = 0

    async def start(self) -> int:
        """Raises RuntimeError when the address is taken."""
        self.port = self._server.add_insecure_port(self._listen)
        await self._server.start()
        serving = health_pb2.HealthCheckResponse.SERVING
        await self._health.set("", serving)
        await self._health.set(SERVICE, serving)
        return self.port

    async def stop(self, grace: float = 0.5) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
