"""A typed client of MeshService, for the command line and for programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Literal, Self

import grpc

from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import mesh_pb2_grpc


class MeshClient:
    """An async context manager. Calls raise grpc.aio.AioRpcError; `timeout` is in seconds."""

    def __init__(self, address: str, *, timeout: float = 5.0) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = mesh_pb2_grpc.MeshServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close(None)

    async def get_mesh(self) -> pb.Mesh:
        mesh: pb.Mesh = await self._stub.GetMesh(pb.GetMeshRequest(), timeout=self._timeout)
        return mesh

    async def set_mode(self, mode: Literal["observe", "auto"]) -> pb.Mesh:
        value = {"observe": pb.MODE_OBSERVE, "auto": pb.MODE_AUTO}[mode]
        mesh: pb.Mesh = await self._stub.SetMode(
            pb.SetModeRequest(mode=value), timeout=self._timeout
        )
        return mesh

    async def get_decision(self, number: int = 0) -> pb.Decision:
        """The one with this number; 0: the latest."""
        decision: pb.Decision = await self._stub.GetDecision(
            pb.GetDecisionRequest(number=number), timeout=self._timeout
        )
        return decision

    async def watch_decisions(self) -> AsyncIterator[pb.Decision]:
        """Until cancelled or the server goes away."""
        async for decision in self._stub.WatchDecisions(pb.WatchDecisionsRequest()):
            yield decision
