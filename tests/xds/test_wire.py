"""Our few lines of wire format against protobuf's own parser."""

from __future__ import annotations

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from google.protobuf.any_pb2 import Any
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenmesh.xds import wire
from eigenmesh.xds.resource import Resource


@settings(deadline=None)
@given(st.text(max_size=300), st.binary(max_size=300))
def test_a_field_is_what_protobuf_reads(type_url: str, value: bytes) -> None:
    packed = wire.field(1, type_url) + wire.field(2, value)
    assert Any.FromString(packed) == Any(type_url=type_url, value=value)


@settings(deadline=None)
@given(st.integers(0, 2**40))
def test_a_varint_is_read_back(value: int) -> None:
    read = 0
    for index, byte in enumerate(wire.varint(value)):
        read |= (byte & 0x7F) << 7 * index
    assert read == value
    assert all(byte & 0x80 for byte in wire.varint(value)[:-1])
    assert not wire.varint(value)[-1] & 0x80


def test_entries_stand_where_the_responses_expect_them() -> None:
    from google.protobuf.wrappers_pb2 import StringValue

    resource = Resource.of(StringValue(value="x"), "n")
    assert DiscoveryResponse.FromString(resource.sotw_entry).resources[0].value
    entry = DeltaDiscoveryResponse.FromString(resource.delta_entry).resources[0]
    assert (entry.name, entry.version) == ("n", resource.version)
    assert entry.resource.SerializeToString() == resource.packed
