"""The floor: a bare grpc.aio server that sends ready-made bytes and counts ACKs, nothing else.

No control plane on grpc.aio can be cheaper. It knows no subscriptions, versions or nodes, and
reads of a request only its type and its nonce.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import grpc
import grpc.aio
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2,
)
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
)
from envoy.service.runtime.v3 import rtds_pb2
from google.protobuf import json_format
from grpc.aio import EOF  # type: ignore[attr-defined]

from bench.xds import scene
from bench.xds.child import allow_connections, obey
from bench.xds.served import Pushes

_INSIDE_ANYS = (router_pb2, http_connection_manager_pb2)
_CLASSES: dict[str, Any] = {
    scene.CLUSTER: cluster_pb2.Cluster,
    scene.LISTENER: listener_pb2.Listener,
    scene.ROUTE: route_pb2.RouteConfiguration,
    scene.RUNTIME: rtds_pb2.Runtime,
}


def packed(type_url: str, version: str, named: list[tuple[str, Any]]) -> bytes:
    """A response with its nonce in it."""
    response = DeltaDiscoveryResponse(type_url=type_url, system_version_info=version, nonce=version)
    for name, value in named:
        message = value
        if isinstance(value, dict):
            message = json_format.ParseDict(value, _CLASSES[type_url]())
        response.resources.add(name=name, version=version).resource.Pack(message)
    return bytes(response.SerializeToString())


class Floor:
    """`tables[n]` is what the n-th push sends."""

    def __init__(self, shape: scene.Shape, pushes: int) -> None:
        self._first = {
            url: packed(url, "0", named) for url, named in scene.resources(shape).items()
        }
        table = json_format.ParseDict(scene.route_table(shape), route_pb2.RouteConfiguration())
        weights = table.virtual_hosts[0].routes[0].route.weighted_clusters.clusters
        self._tables: list[bytes] = []
        for number in range(1, pushes + 1):
            weights[0].weight.value += 1
            weights[1].weight.value -= weights[1].weight.value > 0
            self._tables.append(packed(scene.ROUTE, str(number), [(scene.ROUTE_TABLE, table)]))
        self._streams: dict[Any, asyncio.Task[None] | None] = {}
        self.pushes = Pushes(lambda number: self._tables[number - 1], lambda body: body, self._send)

    def _send(self, body: bytes) -> None:
        for context, writing in self._streams.items():
            # A stream that has not taken the last push does not get this one.
            if writing is None or writing.done():
                self._streams[context] = asyncio.create_task(context.write(body))

    async def serve(self, _: Any, context: Any) -> None:
        self._streams[context] = None
        try:
            while (request := await context.read()) is not EOF:
                if not request.response_nonce:
                    await context.write(self._first[request.type_url])
                elif request.type_url == scene.ROUTE:
                    self.pushes.acked()
        finally:
            del self._streams[context]


async def main() -> None:
    parser = argparse.ArgumentParser()
    scene.Shape.add_to(parser)
    parser.add_argument("--pushes", type=int, required=True)
    args = parser.parse_args()
    allow_connections()
    floor = Floor(scene.Shape.from_arguments(args), args.pushes)
    method = grpc.stream_stream_rpc_method_handler(
        floor.serve, request_deserializer=DeltaDiscoveryRequest.FromString
    )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "envoy.service.discovery.v3.AggregatedDiscoveryService",
                {"DeltaAggregatedResources": method},
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"ok": {"port": port}}), flush=True)
    await obey({"push": floor.pushes.push, "settle": floor.pushes.settle})


if __name__ == "__main__":
    asyncio.run(main())
