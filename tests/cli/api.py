"""An API server on a free port that answers what a test lays out, over real gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import grpc
from google.protobuf.message import Message

from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import mesh_service_pb2 as reads
from eigenmesh.v1.mesh_service_pb2_grpc import (
    MeshServiceServicer,
    add_MeshServiceServicer_to_server,
)
from eigenmesh.v1.operations_service_pb2_grpc import (
    OperationsServiceServicer,
    add_OperationsServiceServicer_to_server,
)

TIME = 1_795_000_000
"""2026-11-18T11:06:40Z."""


def plan(a: float = 0.5, limit: int = 64) -> pb.Plan:
    return pb.Plan(
        routes=[
            pb.RouteWeights(route="search", weights={"b": 0.25, "c": 0.75}),
            pb.RouteWeights(route="shop", weights={"a": a, "b": 1 - a}),
        ],
        clusters=[pb.ClusterLimits(cluster="a", max_requests=limit)],
    )


def states() -> list[pb.ClusterState]:
    curve = pb.Curve(t0_seconds=0.01, capacity=400.0, capacity_error=0.05, t0_error=0.01)
    return [
        pb.ClusterState(
            cluster="a",
            load=150.0,
            mean_seconds=0.0125,
            p50_seconds=0.01,
            p99_seconds=0.08,
            in_flight=60.0,
            curve=curve,
        ),
        pb.ClusterState(cluster="b", load=200.0, mean_seconds=0.02, in_flight=4.0),
        pb.ClusterState(cluster="c", load=150.0),
    ]


def decision(number: int = 17, **changes: Any) -> pb.Decision:
    given: dict[str, Any] = {
        "name": f"meshes/demo/decisions/{number}",
        "number": number,
        "time": {"seconds": TIME + 3 * number},
        "action": pb.Decision.ACTION_PUSH,
        "why": "predicted 12% better",
        "plan": plan(),
        "proposed": plan(0.7),
        "clusters": states(),
        "demands": [
            pb.RouteDemand(route="shop", requests_per_second=300.0),
            pb.RouteDemand(route="search", requests_per_second=200.0),
        ],
        "candidates": [
            pb.Candidate(part="weights", solver="born-machine", objective=0.0201, won=True),
            pb.Candidate(part="weights", solver="water-filling", objective=0.0202),
        ],
        "cuts": [pb.Cut(rule="max_step", subject="shop a", proposed=0.7, allowed=0.5)],
        "predicted": 0.0201,
        "incumbent_predicted": 0.0228,
    }
    return pb.Decision(**given | changes)


def mesh(**changes: Any) -> pb.Mesh:
    given: dict[str, Any] = {
        "name": "meshes/demo",
        "id": "demo",
        "mode": pb.MODE_AUTO,
        "controls": pb.Controls(mode=pb.MODE_AUTO),
        "plan_in_force": plan(),
        "latest_decision": decision(),
        "connected_nodes": 2,
        "division": "even: no shares are known",
    }
    return pb.Mesh(**given | changes)


def routes() -> list[pb.Route]:
    return [
        pb.Route(
            name="meshes/demo/routes/search",
            id="search",
            mode=pb.MODE_AUTO,
            weights={"b": 0.25, "c": 0.75},
            demand=200.0,
            canaries={"c": 0.8},
        ),
        pb.Route(
            name="meshes/demo/routes/shop",
            id="shop",
            mode=pb.MODE_OBSERVE,
            weights={"a": 0.5, "b": 0.5},
            pins={"a": 0.5},
            missing="no request in the window",
        ),
    ]


def clusters() -> list[pb.Cluster]:
    a, b, _ = states()
    return [
        pb.Cluster(
            name="meshes/demo/clusters/a",
            id="a",
            mode=pb.MODE_AUTO,
            state=a,
            limits=pb.ClusterLimits(cluster="a", max_requests=64),
            max_requests={"envoy-1": 32, "envoy-2": 32},
            weights={"shop": 0.5},
            host="rack-1",
        ),
        pb.Cluster(
            name="meshes/demo/clusters/b",
            id="b",
            mode=pb.MODE_AUTO,
            state=b,
            weights={"shop": 0.5, "search": 0.25},
            adaptive=True,
            missing="no histogram",
        ),
    ]


def nodes() -> list[pb.Node]:
    runtime = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
    route = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    return [
        pb.Node(
            name="meshes/demo/nodes/envoy-1",
            id="envoy-1",
            cluster="edge",
            group="default",
            subscriptions=[
                pb.Subscription(
                    type_url=runtime,
                    sent_version="2f1c",
                    acked_version="2f1c",
                    names=["eigenmesh"],
                    answered_ago={"seconds": 4},
                ),
                pb.Subscription(
                    type_url=route,
                    sent_version="77aa",
                    acked_version="0b0b",
                    nack="unknown cluster [x]",
                    nack_count=2,
                    names=["r1", "r2", "r3", "r4"],
                ),
            ],
        )
    ]


def audit_entries() -> list[pb.AuditEntry]:
    return [
        pb.AuditEntry(
            name="meshes/demo/auditEntries/2",
            number=2,
            time={"seconds": TIME},
            who="deploy-bot",
            action="Pin",
            detail={"route": "shop", "weights": {"a": 2}},
            outcome="weights.a: 2.0: use 0 to 1",
        ),
        pb.AuditEntry(
            name="meshes/demo/auditEntries/1",
            number=1,
            time={"seconds": TIME - 60},
            who="local",
            action="Pause",
            outcome="ok",
        ),
    ]


def what_if() -> reads.WhatIfResponse:
    return reads.WhatIfResponse(
        demands={"shop": 300.0, "search": 300.0},
        plan=plan(0.6),
        predicted=0.03,
        predicted_latency=0.028,
        incumbent_predicted=0.5,
        clusters={
            "a": pb.ClusterForecast(load=180.0, capacity=200.0, latency=0.05, blocked=0.02),
            "b": pb.ClusterForecast(load=195.0, capacity=400.0, latency=0.02),
        },
        candidates=[pb.Candidate(part="weights", solver="born-machine", objective=0.03, won=True)],
    )


class Feed:
    """The answer to a call that watches: what was put, as it comes; None ends the call."""

    def __init__(self, *first: Message | None) -> None:
        self._queue: SimpleQueue[Message | None] = SimpleQueue()
        for one in first:
            self.put(one)

    def put(self, message: Message | None) -> None:
        self._queue.put(message)

    def __call__(self, request: Message) -> Iterator[Message]:
        yield from iter(self._queue.get, None)


@dataclass
class Api(MeshServiceServicer, OperationsServiceServicer):
    """answers: by call, messages or functions of the request; of any other write: the mesh.
    refusals: (code, message, google.rpc details) by call. asked: the calls,
    with their requests and metadata, as they came."""

    answers: dict[str, Any] = field(
        default_factory=lambda: {
            "GetMesh": mesh(),
            "GetDecision": decision(),
            "GetRoute": routes()[0],
            "ListDecisions": reads.ListDecisionsResponse(
                decisions=[decision(17), decision(16, action=pb.Decision.ACTION_HOLD, why="calm")]
            ),
            "ListNodes": reads.ListNodesResponse(nodes=nodes()),
            "ListRoutes": reads.ListRoutesResponse(routes=routes()),
            "ListClusters": reads.ListClustersResponse(clusters=clusters()),
            "ListAuditEntries": reads.ListAuditEntriesResponse(audit_entries=audit_entries()),
            "Propose": decision(0, action=pb.Decision.ACTION_RECOMMEND),
            "WhatIf": what_if(),
            "Approve": decision(),
            "Reject": decision(action=pb.Decision.ACTION_HOLD, why="rejected by local"),
        }
    )
    refusals: dict[str, tuple[grpc.StatusCode, str, bytes | None]] = field(default_factory=dict)
    asked: list[tuple[str, Any, dict[str, str | bytes]]] = field(default_factory=list)
    address: str = ""

    def __getattribute__(self, name: str) -> Any:
        if name[:1].isupper():
            return lambda request, context: self._answer(name, request, context)
        return super().__getattribute__(name)

    def _answer(self, name: str, request: Message, context: grpc.ServicerContext) -> Any:
        self.asked.append((name, request, dict(context.invocation_metadata())))
        if name in self.refusals:
            code, message, details = self.refusals[name]
            if details is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", details),))
            context.abort(code, message)
        answer = self.answers.get(name, self.answers["GetMesh"])
        return answer(request) if callable(answer) else answer

    @property
    def last(self) -> Any:
        """The request that came last."""
        return self.asked[-1][1]


@contextmanager
def serving(credentials: grpc.ServerCredentials | None = None) -> Iterator[Api]:
    """Served on a free port of this machine."""
    api = Api()
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    add_MeshServiceServicer_to_server(api, server)  # type: ignore[no-untyped-call]
    add_OperationsServiceServicer_to_server(api, server)  # type: ignore[no-untyped-call]
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    api.address = f"127.0.0.1:{port}"
    try:
        yield api
    finally:
        stopped = server.stop(None)
        for answer in api.answers.values():
            if isinstance(answer, Feed):
                answer.put(None)
        stopped.wait(5.0)
