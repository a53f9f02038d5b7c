"""Envoy's ClientStatusDiscoveryService: what each client holds, resource by resource.

Contents are never told, only versions and states: resources may hold private keys. Source:
service.status.v3.ClientStatusDiscoveryService, in the management server's role.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
from envoy.admin.v3.config_dump_shared_pb2 import ClientResourceStatus
from envoy.service.status.v3.csds_pb2 import (
    ClientConfig,
    ClientStatusRequest,
    ClientStatusResponse,
    ConfigStatus,
)
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from eigenmesh.xds.node import Node
from eigenmesh.xds.status import StreamStatus
from eigenmesh.xds.stream import Lane

SERVICE = "envoy.service.status.v3.ClientStatusDiscoveryService"

Context = grpc.aio.ServicerContext[Any, Any]


class ClientStatus:
    """streams: what is connected now."""

    def __init__(self, streams: Callable[[], Iterable[StreamStatus]]) -> None:
        self._streams = streams

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        coding = (ClientStatusRequest.FromString, ClientStatusResponse.SerializeToString)
        return {
            "FetchClientStatus": grpc.unary_unary_rpc_method_handler(self._fetch, *coding),
            "StreamClientStatus": grpc.stream_stream_rpc_method_handler(self._stream, *coding),
        }

    async def _fetch(self, request: ClientStatusRequest, context: Context) -> ClientStatusResponse:
        try:
            return self._response(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise AssertionError from error

    async def _stream(
        self, requests: AsyncIterator[ClientStatusRequest], context: Context
    ) -> AsyncIterator[ClientStatusResponse]:
        async for request in requests:
            yield await self._fetch(request, context)

    def _response(self, request: ClientStatusRequest) -> ClientStatusResponse:
        by_node: dict[tuple[str, str], ClientConfig] = {}
        for stream in self._streams():
            if not _wanted(request, stream.node):
                continue
            config = by_node.setdefault((stream.node.id, stream.peer), ClientConfig())
            config.node.id, config.node.cluster = stream.node.id, stream.node.cluster
            config.client_scope = stream.group
            for lane in stream.lanes:
                _add(config, lane)
        return ClientStatusResponse(config=[by_node[key] for key in sorted(by_node)])


def _add(config: ClientConfig, lane: Lane) -> None:
    waiting = lane.in_flight.names if lane.in_flight is not None else frozenset()
    for name in sorted(lane.sent.keys() | lane.subscription.names):
        version = lane.sent.get(name, "")
        held = ClientConfig.GenericXdsConfig(
            type_url=lane.type_url, name=name, version_info=version
        )
        if name in lane.refused:
            held.config_status = ConfigStatus.ERROR
            held.client_status = ClientResourceStatus.NACKED
            held.error_state.details = lane.refused[name]
            held.error_state.version_info = version
        elif name in waiting:
            held.config_status = ConfigStatus.STALE
            held.client_status = ClientResourceStatus.REQUESTED
        elif version:
            held.config_status = ConfigStatus.SYNCED
            held.client_status = ClientResourceStatus.ACKED
        else:
            held.config_status = ConfigStatus.NOT_SENT
            held.client_status = (
                ClientResourceStatus.DOES_NOT_EXIST
                if name in lane.sent
                else ClientResourceStatus.REQUESTED
            )
        config.generic_xds_configs.append(held)


def _wanted(request: ClientStatusRequest, node: Node) -> bool:
    """Raises ValueError for a matcher that is not understood."""
    if any(m.node_metadatas for m in request.node_matchers):
        raise ValueError("node_matchers.node_metadatas: not supported; match by node_id")
    matchers = [m.node_id for m in request.node_matchers]
    return not matchers or any(_matches(m, node.id) for m in matchers)


def _matches(matcher: StringMatcher, text: str) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        regex = matcher.safe_regex.regex
        try:
            return re.fullmatch(regex, text) is not None
        except re.error as error:
            raise ValueError(f"node_id.safe_regex: {regex!r}: {error}") from error
    pattern: str = getattr(matcher, kind) if kind else ""
    if kind not in ("exact", "prefix", "suffix", "contains"):
        raise ValueError("node_id: use exact, prefix, suffix, contains or safe_regex")
    if matcher.ignore_case:
        pattern, text = pattern.lower(), text.lower()
    return {
        "exact": text == pattern,
        "prefix": text.startswith(pattern),
        "suffix": text.endswith(pattern),
        "contains": pattern in text,
    }[kind]
