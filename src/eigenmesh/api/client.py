"""A typed client of the API, for the command line and for programs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

import grpc

from eigenmesh.api.names import ANY, id_of, mesh_name, resource_name
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import mesh_service_pb2 as reads
from eigenmesh.v1 import operations_service_pb2 as writes
from eigenmesh.v1.mesh_service_pb2_grpc import MeshServiceStub
from eigenmesh.v1.operations_service_pb2_grpc import OperationsServiceStub

__all__ = ["ClientTls", "MeshClient", "ModeName", "Number", "id_of", "resource_name"]

T = TypeVar("T")

MESH = mesh_name(ANY)

ModeName = Literal["observe", "approve", "auto"]
Number = int | Literal["latest", "pending"]

_MODES = {"observe": pb.MODE_OBSERVE, "approve": pb.MODE_APPROVE, "auto": pb.MODE_AUTO}

_MOST = 256 * 2**20
"""Bytes of one answer: a decision over ten thousand clusters has some ten millions."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files. ca: who signed the server's certificate; None: those that gRPC trusts by itself.
    certificate, private_key: the client's own, where the server wants one. server_name: the name
    in the server's certificate, if it is not the host of the address."""

    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises OSError."""
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.private_key),
            certificate_chain=_read(self.certificate),
        )


class MeshClient:
    """An async context manager. Calls raise grpc.aio.AioRpcError; `timeout` is in seconds.

    token: shown with every call. tls: None for plain text. Routes, clusters and nodes are called
    by their ids. The lists fetch page after page while they are iterated.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 5.0,
        token: str | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        options: list[tuple[str, str | int]] = [("grpc.max_receive_message_length", _MOST)]
        if tls is None:
            self._channel = grpc.aio.insecure_channel(address, options=options)
        else:
            if tls.server_name is not None:
                options.append(("grpc.ssl_target_name_override", tls.server_name))
            self._channel = grpc.aio.secure_channel(address, tls.credentials(), options=options)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._reads: Any = MeshServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._writes: Any = OperationsServiceStub(self._channel)  # type: ignore[no-untyped-call]
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

    # ------------------------------------------------------------------ what there is

    async def get_mesh(self) -> pb.Mesh:
        request = reads.GetMeshRequest(name=MESH)
        return await self._ask(self._reads.GetMesh, request, pb.Mesh)

    async def watch_mesh(self) -> AsyncIterator[pb.Mesh]:
        """Now, and after every change, until cancelled or the server goes away."""
        request = reads.WatchMeshRequest(name=MESH)
        async for mesh in self._reads.WatchMesh(request, metadata=self._metadata):
            yield mesh

    async def get_decision(self, number: Number = "latest") -> pb.Decision:
        """The one with this number; 0 and `latest`: the latest; `pending`: that awaits a yes."""
        request = reads.GetDecisionRequest(name=resource_name("decisions", number or "latest"))
        return await self._ask(self._reads.GetDecision, request, pb.Decision)

    async def watch_decisions(self) -> AsyncIterator[pb.Decision]:
        """The newest and those to come, until cancelled or the server goes away."""
        request = reads.WatchDecisionsRequest(parent=MESH)
        async for decision in self._reads.WatchDecisions(request, metadata=self._metadata):
            yield decision

    def list_decisions(
        self, *, most: int | None = None, full: bool = False
    ) -> AsyncIterator[pb.Decision]:
        """The newest first; full: with all that they rest on. most: None for every one."""
        view = reads.DECISION_VIEW_FULL if full else reads.DECISION_VIEW_BASIC
        request = reads.ListDecisionsRequest(parent=MESH, view=view)
        return self._list(self._reads.ListDecisions, request, "decisions", most, pb.Decision)

    def list_nodes(self, *, most: int | None = None) -> AsyncIterator[pb.Node]:
        request = reads.ListNodesRequest(parent=MESH)
        return self._list(self._reads.ListNodes, request, "nodes", most, pb.Node)

    async def get_node(self, node: str) -> pb.Node:
        request = reads.GetNodeRequest(name=resource_name("nodes", node))
        return await self._ask(self._reads.GetNode, request, pb.Node)

    def list_routes(self, *, most: int | None = None) -> AsyncIterator[pb.Route]:
        request = reads.ListRoutesRequest(parent=MESH)
        return self._list(self._reads.ListRoutes, request, "routes", most, pb.Route)

    async def get_route(self, route: str) -> pb.Route:
        request = reads.GetRouteRequest(name=resource_name("routes", route))
        return await self._ask(self._reads.GetRoute, request, pb.Route)

    def list_clusters(self, *, most: int | None = None) -> AsyncIterator[pb.Cluster]:
        request = reads.ListClustersRequest(parent=MESH)
        return self._list(self._reads.ListClusters, request, "clusters", most, pb.Cluster)

    async def get_cluster(self, cluster: str) -> pb.Cluster:
        request = reads.GetClusterRequest(name=resource_name("clusters", cluster))
        return await self._ask(self._reads.GetCluster, request, pb.Cluster)

    def list_audit_entries(self, *, most: int | None = None) -> AsyncIterator[pb.AuditEntry]:
        """The newest first."""
        request = reads.ListAuditEntriesRequest(parent=MESH)
        call = self._reads.ListAuditEntries
        return self._list(call, request, "audit_entries", most, pb.AuditEntry)

    # ------------------------------------------------------------------ what would be

    async def propose(self) -> pb.Decision:
        """What would be decided now."""
        request = reads.ProposeRequest(name=MESH)
        return await self._ask(self._reads.Propose, request, pb.Decision)

    async def what_if(
        self,
        demands: Mapping[str, float] | None = None,
        *,
        scale: float | None = None,
        without: Sequence[str] = (),
        capacities: Mapping[str, float] | None = None,
    ) -> reads.WhatIfResponse:
        """demands: requests/s by route, others as now times `scale`. without: clusters that are
        gone. capacities: factors by cluster."""
        request = reads.WhatIfRequest(
            name=MESH, demands=demands, scale=scale, without=without, capacities=capacities
        )
        return await self._ask(self._reads.WhatIf, request, reads.WhatIfResponse)

    # ------------------------------------------------------------------ what to do

    async def set_mode(
        self, mode: ModeName, *, route: str | None = None, cluster: str | None = None
    ) -> pb.Mesh:
        """Of the mesh, or of one route or one cluster. Raises ValueError for both at once."""
        if route is not None and cluster is not None:
            raise ValueError("give a route or a cluster, not both")
        name = MESH
        if route is not None:
            name = resource_name("routes", route)
        elif cluster is not None:
            name = resource_name("clusters", cluster)
        request = writes.SetModeRequest(name=name, mode=_MODES[mode])
        return await self._ask(self._writes.SetMode, request, pb.Mesh)

    async def pause(self, why: str = "") -> pb.Mesh:
        request = writes.PauseRequest(name=MESH, why=why)
        return await self._ask(self._writes.Pause, request, pb.Mesh)

    async def resume(self) -> pb.Mesh:
        request = writes.ResumeRequest(name=MESH)
        return await self._ask(self._writes.Resume, request, pb.Mesh)

    async def freeze(self, end: datetime | timedelta) -> pb.Mesh:
        """Until then, or for so long. A datetime without a zone is taken for UTC."""
        request = writes.FreezeRequest(name=MESH)
        if isinstance(end, timedelta):
            request.duration.FromTimedelta(end)
        else:
            request.until.FromDatetime(end if end.tzinfo else end.replace(tzinfo=UTC))
        return await self._ask(self._writes.Freeze, request, pb.Mesh)

    async def pin(self, route: str, weights: Mapping[str, float]) -> pb.Mesh:
        """weights: fractions by cluster; the route's other clusters share the rest."""
        request = writes.PinRequest(name=resource_name("routes", route), weights=weights)
        return await self._ask(self._writes.Pin, request, pb.Mesh)

    async def unpin(self, route: str) -> pb.Mesh:
        request = writes.UnpinRequest(name=resource_name("routes", route))
        return await self._ask(self._writes.Unpin, request, pb.Mesh)

    async def promote(self, route: str, cluster: str) -> pb.Mesh:
        request = writes.PromoteRequest(name=resource_name("routes", route), cluster=cluster)
        return await self._ask(self._writes.Promote, request, pb.Mesh)

    async def set_policy(self, values: Mapping[str, float | None]) -> pb.Mesh:
        """Settings of the guard by their names, such as max_step; None: as the settings say."""
        request = writes.SetPolicyRequest(
            name=MESH,
            values={name: value for name, value in values.items() if value is not None},
            reset=[name for name, value in values.items() if value is None],
        )
        return await self._ask(self._writes.SetPolicy, request, pb.Mesh)

    async def approve(self, number: Number = "pending") -> pb.Decision:
        request = writes.ApproveRequest(name=resource_name("decisions", number or "pending"))
        return await self._ask(self._writes.Approve, request, pb.Decision)

    async def reject(self, number: Number = "pending", why: str = "") -> pb.Decision:
        name = resource_name("decisions", number or "pending")
        request = writes.RejectRequest(name=name, why=why)
        return await self._ask(self._writes.Reject, request, pb.Decision)

    async def roll_back(self, number: int) -> pb.Mesh:
        """To the plan of this decision."""
        request = writes.RollBackRequest(name=resource_name("decisions", number))
        return await self._ask(self._writes.RollBack, request, pb.Mesh)

    async def restore(self) -> pb.Mesh:
        """To the operator's own weights and limits."""
        request = writes.RestoreRequest(name=MESH)
        return await self._ask(self._writes.Restore, request, pb.Mesh)

    # ------------------------------------------------------------------ how it is asked

    async def _ask(
        self, call: Callable[..., Awaitable[object]], request: object, kind: type[T]
    ) -> T:
        answer = await call(request, timeout=self._timeout, metadata=self._metadata)
        return cast(T, answer)

    async def _list(
        self,
        call: Callable[..., Awaitable[Any]],
        request: Any,
        field: str,
        most: int | None,
        kind: type[T],
    ) -> AsyncIterator[T]:
        left = most
        while left is None or left > 0:
            request.page_size = left or 0
            page = await call(request, timeout=self._timeout, metadata=self._metadata)
            for one in getattr(page, field):
                yield one
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
            if left is not None:
                left -= len(getattr(page, field))


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
