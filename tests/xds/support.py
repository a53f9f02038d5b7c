"""Requests, responses and resources for the tests of the stream core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from google.protobuf.wrappers_pb2 import StringValue

from eigenmesh.xds.delta import DeltaStream
from eigenmesh.xds.resource import Key, Resource, digest
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.sotw import SotwStream
from eigenmesh.xds.stream import Response


def resource(
    type_url: str,
    name: str,
    content: object = 0,
    *,
    warms: Iterable[Key] = (),
    needs: Iterable[Key] = (),
) -> Resource:
    """A resource whose version depends on name and content."""
    made = Resource.of(StringValue(value=f"{name}={content}"), name)
    return Resource(type_url, name, made.version, made.packed, frozenset(warms), frozenset(needs))


def snapshot(type_url: str, **contents: object) -> Snapshot:
    return Snapshot(resource(type_url, name, content) for name, content in contents.items())


def ask_delta(
    type_url: str,
    *subscribe: str,
    unsubscribe: Iterable[str] = (),
    known: Mapping[str, str] | None = None,
    nonce: str = "",
    error: str = "",
    node: str = "",
) -> DeltaDiscoveryRequest:
    request = DeltaDiscoveryRequest(
        type_url=type_url,
        resource_names_subscribe=subscribe,
        resource_names_unsubscribe=list(unsubscribe),
        initial_resource_versions=known,
        response_nonce=nonce,
    )
    if error:
        request.error_detail.message = error
    if node:
        request.node.id = node
    return request


def ask_sotw(
    type_url: str,
    *names: str,
    nonce: str = "",
    version: str = "",
    error: str = "",
    node: str = "",
) -> DiscoveryRequest:
    request = DiscoveryRequest(
        type_url=type_url, resource_names=names, response_nonce=nonce, version_info=version
    )
    if error:
        request.error_detail.message = error
    if node:
        request.node.id = node
    return request


@dataclass(frozen=True)
class Told:
    """What a response says, as the client reads it from the wire."""

    type_url: str
    nonce: str
    names: tuple[str, ...]
    versions: Mapping[str, str]
    removed: tuple[str, ...]
    version: str

    def is_of(self, type_url: str) -> bool:
        return self.type_url == type_url


def parse(body: bytes, *, delta: bool) -> Told:
    """A response off the wire."""
    if delta:
        incremental = DeltaDiscoveryResponse.FromString(body)
        versions = {r.name: r.version for r in incremental.resources}
        assert len(versions) == len(incremental.resources), "a name is in a response once"
        removed, version = tuple(incremental.removed_resources), incremental.system_version_info
        return Told(
            incremental.type_url, incremental.nonce, tuple(versions), versions, removed, version
        )
    sotw = DiscoveryResponse.FromString(body)
    versions = {}
    for packed in sotw.resources:
        text = StringValue()
        assert packed.Unpack(text)
        # No version comes with it: it follows from the content.
        versions[text.value.partition("=")[0]] = digest(packed.SerializeToString())
    assert len(versions) == len(sotw.resources), "a name is in a response once"
    return Told(sotw.type_url, sotw.nonce, tuple(versions), versions, (), sotw.version_info)


def read(stream: DeltaStream | SotwStream, response: Response) -> Told:
    """Parses the bytes as a client would."""
    told = parse(response.body, delta=isinstance(stream, DeltaStream))
    assert (told.type_url, told.nonce) == (response.type_url, response.nonce)
    return told


def take(stream: DeltaStream | SotwStream) -> list[Told]:
    """Everything that the stream sends now, unanswered."""
    told = []
    while (response := stream.next()) is not None:
        told.append(read(stream, response))
    return told


def take_one(stream: DeltaStream | SotwStream) -> Told:
    [told] = take(stream)
    return told
