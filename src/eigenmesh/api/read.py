"""MeshService: what there is, and what would be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from eigenmesh.api import convert, pages
from eigenmesh.api.gate import Context
from eigenmesh.api.names import resource_name
from eigenmesh.api.subject import Subject, number_of
from eigenmesh.control.operations import NotFoundError
from eigenmesh.mesh import Decision, MeshError, Observation
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import mesh_service_pb2 as api
from eigenmesh.v1.mesh_service_pb2_grpc import MeshServiceServicer
from eigenmesh.xds.status import NodeStatus

LOOK = 0.25
"""Seconds between two looks whether the mesh has changed, for those who watch it."""

Granted = Mapping[str, Mapping[str, int]]
"""Node -> cluster -> its part of the limit."""

FULL_PAGE = 100
"""Decisions of a page with all that they rest on."""


class Reads(MeshServiceServicer):
    """Raises what `errors.status_of` knows."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    # The names of the methods are the proto's.
    # ruff: noqa: N802

    async def GetMesh(self, request: api.GetMeshRequest, context: Context) -> pb.Mesh:
        self._subject.named(request.name, "")
        return await self._subject.mesh()

    async def WatchMesh(
        self, request: api.WatchMeshRequest, context: Context
    ) -> AsyncIterator[pb.Mesh]:
        self._subject.named(request.name, "")
        seen: tuple[object, ...] | None = None
        while True:
            if (state := self._subject.state()) != seen:
                seen = state
                yield await self._subject.mesh()
            await asyncio.sleep(LOOK)

    async def GetDecision(self, request: api.GetDecisionRequest, context: Context) -> pb.Decision:
        _, id = self._subject.named(request.name, "decisions")
        return await self._subject.decision(await self._decision(id))

    async def ListDecisions(
        self, request: api.ListDecisionsRequest, context: Context
    ) -> api.ListDecisionsResponse:
        subject = self._subject
        subject.named(request.parent, "", field="parent")
        if request.view not in api.DecisionView.values():
            raise MeshError("view", request.view, "use one of DecisionView")
        full = request.view == api.DECISION_VIEW_FULL
        size = pages.size_of(request, FULL_PAGE if full else pages.MOST)
        before = pages.number_in(request, "decisions")
        journal = subject.journal
        found = await asyncio.to_thread(journal.page, size + 1, before)
        response = api.ListDecisionsResponse()
        for summary in found[:size]:
            if not full:
                response.decisions.append(convert.summary_message(summary, subject.id))
            elif message := await asyncio.to_thread(self._kept, summary.number):
                response.decisions.append(message)
        if len(found) > size:
            response.next_page_token = pages.token_for("decisions", found[size - 1].number)
        return response

    async def WatchDecisions(
        self, request: api.WatchDecisionsRequest, context: Context
    ) -> AsyncIterator[pb.Decision]:
        self._subject.named(request.parent, "", field="parent")
        async for decision in self._subject.loop.watch():
            yield await self._subject.decision(decision)

    async def GetNode(self, request: api.GetNodeRequest, context: Context) -> pb.Node:
        _, id = self._subject.named(request.name, "nodes")
        for status in self._subject.nodes():
            if status.node_id == id:
                return self._node(status, self._subject.proxies.grants)
        raise NotFoundError(f"nodes: {id[:100]!r}: not connected; list the nodes that are")

    async def ListNodes(
        self, request: api.ListNodesRequest, context: Context
    ) -> api.ListNodesResponse:
        subject = self._subject
        subject.named(request.parent, "", field="parent")
        # Envoys may share an id by mistake; then their addresses tell them apart.
        found, following = pages.page(
            request,
            "nodes",
            subject.nodes(),
            lambda n: [n.node_id, n.node_cluster, n.group, n.peer],
        )
        grants = subject.proxies.grants

        def nodes() -> list[pb.Node]:
            return [self._node(status, grants) for status in found]

        # A thousand of anything take tens of milliseconds, in which xDS has to be served.
        return api.ListNodesResponse(
            nodes=await asyncio.to_thread(nodes), next_page_token=following
        )

    async def GetRoute(self, request: api.GetRouteRequest, context: Context) -> pb.Route:
        kind, id = self._subject.named(request.name, "routes")
        return self._route(self._subject.known(kind, id))

    async def ListRoutes(
        self, request: api.ListRoutesRequest, context: Context
    ) -> api.ListRoutesResponse:
        self._subject.named(request.parent, "", field="parent")
        names = self._subject.topology.route_by_name
        found, following = pages.page(request, "routes", names, lambda name: [name])
        routes = await asyncio.to_thread(lambda: [self._route(name) for name in found])
        return api.ListRoutesResponse(routes=routes, next_page_token=following)

    async def GetCluster(self, request: api.GetClusterRequest, context: Context) -> pb.Cluster:
        kind, id = self._subject.named(request.name, "clusters")
        return self._cluster(self._subject.known(kind, id), self._subject.proxies.grants)

    async def ListClusters(
        self, request: api.ListClustersRequest, context: Context
    ) -> api.ListClustersResponse:
        self._subject.named(request.parent, "", field="parent")
        names = self._subject.topology.steered_clusters
        found, following = pages.page(request, "clusters", names, lambda name: [name])
        grants = self._subject.proxies.grants

        def clusters() -> list[pb.Cluster]:
            return [self._cluster(name, grants) for name in found]

        return api.ListClustersResponse(
            clusters=await asyncio.to_thread(clusters), next_page_token=following
        )

    async def Propose(self, request: api.ProposeRequest, context: Context) -> pb.Decision:
        self._subject.named(request.name, "")
        proposed = await self._subject.operations.propose()
        subject = self._subject
        message = await asyncio.to_thread(convert.decision_message, proposed, subject.id)
        message.ClearField("name")  # it is in no journal
        return message

    async def WhatIf(self, request: api.WhatIfRequest, context: Context) -> api.WhatIfResponse:
        self._subject.named(request.name, "")
        found = await self._subject.operations.what_if(
            dict(request.demands),
            scale=request.scale if request.HasField("scale") else 1.0,
            without=tuple(request.without),
            capacities=dict(request.capacities),
        )
        return convert.what_if_message(found)

    async def ListAuditEntries(
        self, request: api.ListAuditEntriesRequest, context: Context
    ) -> api.ListAuditEntriesResponse:
        self._subject.named(request.parent, "", field="parent")
        size, before = pages.size_of(request), pages.number_in(request, "audit")
        found = await self._subject.operations.audit(size + 1, before)
        response = api.ListAuditEntriesResponse(
            audit_entries=[convert.audit_message(e, self._subject.id) for e in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = pages.token_for("audit", found[size - 1].number)
        return response

    async def _decision(self, id: str) -> Decision:
        latest, pending = self._subject.loop.latest, self._subject.operations.pending
        if id in ("latest", "pending"):
            decision = latest if id == "latest" else pending
            if decision is None:
                raise NotFoundError(f"decisions: {id}: there is none now")
            return decision
        number = number_of(id)
        for one in (latest, pending):
            if one is not None and one.number == number:
                return one
        kept = await asyncio.to_thread(self._subject.journal.decision, number)
        if kept is None:
            raise NotFoundError(f"decisions: {number}: not in the journal; `latest` is the latest")
        return kept

    def _kept(self, number: int) -> pb.Decision | None:
        """Of the journal, on a thread."""
        decision = self._subject.journal.decision(number)
        return convert.decision_message(decision, self._subject.id) if decision else None

    def _node(self, status: NodeStatus, grants: Granted) -> pb.Node:
        return convert.node_message(status, grants.get(status.node_id, {}), self._subject.id)

    def _route(self, name: str) -> pb.Route:
        subject = self._subject
        controls, seen = subject.operations.controls, _seen(subject.loop.latest)
        return pb.Route(
            name=resource_name("routes", name, subject.id),
            id=name,
            mode=convert.MODES[controls.mode_of_route(name)],
            weights=subject.loop.plan.weights.get(name),
            demand=seen.demands.get(name) if seen else None,
            pins=controls.pins.get(name),
            canaries={
                cluster: most
                for (route, cluster), most in subject.loop.settings.guard.canaries.items()
                if route == name and (route, cluster) not in controls.promoted
            },
            missing=seen.missing.get(name, "") if seen else "",
        )

    def _cluster(self, name: str, grants: Granted) -> pb.Cluster:
        subject = self._subject
        plan, latest = subject.loop.plan, subject.loop.latest
        cluster, seen = subject.topology.by_name[name], _seen(latest)
        return pb.Cluster(
            name=resource_name("clusters", name, subject.id),
            id=name,
            mode=convert.MODES[subject.operations.controls.mode_of_cluster(name)],
            state=convert.cluster_state(name, latest) if latest else None,
            limits=convert.limits_message(name, plan.limits[name]) if name in plan.limits else None,
            max_requests={node: part[name] for node, part in grants.items() if name in part},
            weights={route: split[name] for route, split in plan.weights.items() if name in split},
            host=cluster.host or "",
            adaptive=cluster.adaptive,
            missing=seen.missing.get(name, "") if seen else "",
        )


def _seen(decision: Decision | None) -> Observation | None:
    return decision.observation if decision else None
