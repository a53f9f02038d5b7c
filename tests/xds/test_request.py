"""Limits of what a client may say, and requests made of anything, against the stream core."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from hypothesis import given, settings

from eigenmesh.xds import request as limits
from eigenmesh.xds.delta import DeltaStream
from eigenmesh.xds.request import ProtocolError
from eigenmesh.xds.resource import CLUSTER, ENDPOINT, ROUTE
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.sotw import SotwStream
from eigenmesh.xds.stream import Nack

from .support import ask_delta, ask_sotw, read, resource, snapshot, take, take_one

AnyStream = DeltaStream | SotwStream
LONG = "n" * 9


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TYPES": 2, "NAMES": 3, "NAME_LENGTH": 8, "NODE_SIZE": 20}.items():
        monkeypatch.setattr(limits, name, value)


def delta(*requests: DeltaDiscoveryRequest) -> DeltaStream:
    stream = DeltaStream()
    for request in requests:
        stream.receive(request)
    return stream


def sotw(*requests: DiscoveryRequest) -> SotwStream:
    stream = SotwStream()
    for request in requests:
        stream.receive(request)
    return stream


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("last", "words"),
    [
        (ask_delta("a", *"xyzw"), "resource_names_subscribe: 4 are more than the 3"),
        (ask_delta("a", "w"), "resource names: 4 are more than the 3"),
        (ask_delta("b", "w"), "resource names: 4 are more than the 3"),
        (ask_delta("a", LONG), "resource_names_subscribe: 9 characters, and 8"),
        (ask_delta("b", "*", known=dict.fromkeys("xyzw", "")), "initial_resource_versions: 4"),
        (ask_delta("b", "*", known={"x": LONG}), "initial_resource_versions: 9 characters"),
        (ask_delta("b", "*", known={LONG: ""}), "initial_resource_versions: 9 characters"),
        (ask_delta(LONG), "type_url: 9 characters, and 8"),
    ],
)
def test_delta_past_a_limit_is_told_which(last: DeltaDiscoveryRequest, words: str) -> None:
    stream = delta(ask_delta("a", "x", "y"), ask_delta("a", "z"))
    with pytest.raises(ProtocolError, match=words):
        stream.receive(last)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("last", "words"),
    [
        (ask_sotw("a", *"xyzw"), "resource_names: 4 are more than the 3"),
        (ask_sotw("b", "w"), "resource names: 4 are more than the 3"),
        (ask_sotw("a", LONG), "resource_names: 9 characters, and 8"),
        (ask_sotw("b", version=LONG), "version_info: 9 characters, and 8"),
        (ask_sotw(LONG), "type_url: 9 characters, and 8"),
    ],
)
def test_sotw_past_a_limit_is_told_which(last: DiscoveryRequest, words: str) -> None:
    stream = sotw(ask_sotw("a", *"xyz"))
    with pytest.raises(ProtocolError, match=words):
        stream.receive(last)


@pytest.mark.usefixtures("small")
def test_a_stream_has_so_many_types() -> None:
    with pytest.raises(ProtocolError, match="type_url: 3 are more than the 2"):
        delta(ask_delta("a"), ask_delta("b"), ask_delta("a"), ask_delta("c"))


@pytest.mark.usefixtures("small")
def test_versions_of_all_types_count_together() -> None:
    with pytest.raises(ProtocolError, match="initial_resource_versions: 4 are more"):
        delta(*(ask_delta(t, "*", known=dict.fromkeys("xy", "")) for t in "ab"))


@pytest.mark.usefixtures("small")
def test_a_node_is_not_too_large_and_is_json() -> None:
    with pytest.raises(ProtocolError, match="node: 9 characters"):
        delta(ask_delta("a", node=LONG))
    with pytest.raises(ProtocolError, match="node: 23 bytes, and 20 are allowed"):
        sotw(ask_sotw("a", node="n" * 21))
    request = ask_delta("a")
    request.node.metadata.fields["x"].number_value = float("nan")
    with pytest.raises(ProtocolError, match=r"node\.metadata: .*NaN"):
        delta(request)


@pytest.mark.usefixtures("small")
def test_what_is_within_the_limits_is_served() -> None:
    """The same names again are no more names, and who gives some up may take others."""
    known = dict.fromkeys("xyz", "")
    stream = delta(
        ask_delta("a", *"xyz", known=known),
        ask_delta("a", *"xyz"),
        ask_delta("a", "w", unsubscribe=["x"]),
        ask_delta("a", "v", unsubscribe=["w"]),
    )
    [lane] = stream.lanes
    assert lane.subscription.names == {*"vyz"}
    whole = sotw(ask_sotw("a", *"xyz"), ask_sotw("a", *"uvw"), ask_sotw("a"), ask_sotw("b", *"xyz"))
    assert whole.lanes[1].subscription.names == {*"xyz"}


def test_a_long_refusal_is_kept_in_part() -> None:
    stream = delta(ask_delta(CLUSTER))
    stream.update(snapshot(CLUSTER, a=1))
    text = "because " * limits.TEXT_LENGTH
    [nack] = stream.receive(ask_delta(CLUSTER, nonce=take_one(stream).nonce, error=text))
    assert isinstance(nack, Nack)
    assert nack.text == stream.lanes[0].refused["a"] == text[: limits.TEXT_LENGTH]


def test_types_that_nobody_knows_are_answered_as_any_other() -> None:
    """ "Knowing When a Requested Resource Does Not Exist"."""
    stream: AnyStream = delta(ask_delta("of the future", "a"))
    stream.update(snapshot(CLUSTER, a=1))
    assert take_one(stream).removed == ("a",)
    stream = sotw(ask_sotw("of the future", "a"))
    stream.update(snapshot(CLUSTER, a=1))
    assert take(stream) == []


names = st.lists(st.sampled_from(["a", "b", "*", "", "é"]), max_size=3)
types = st.sampled_from([CLUSTER, ENDPOINT, ROUTE, "", "unknown"])
nonces = st.sampled_from(["", "1", "2", "3", "4", "x"])


@st.composite
def requests(draw: st.DrawFn, kind: type[Any]) -> bytes:
    """A request of all fields, as it is, damaged, or no request at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=30))
    message = kind(type_url=draw(types), response_nonce=draw(nonces))
    if kind is DiscoveryRequest:
        message.resource_names.extend(draw(names))
        message.version_info = draw(nonces)
    else:
        message.resource_names_subscribe.extend(draw(names))
        message.resource_names_unsubscribe.extend(draw(names))
        message.initial_resource_versions.update(dict.fromkeys(draw(names), draw(nonces)))
    if draw(st.booleans()):
        message.error_detail.message = draw(st.text(max_size=3))
    data = bytearray(message.SerializeToString())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3])) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "request_kind"), [(DeltaStream, DeltaDiscoveryRequest), (SotwStream, DiscoveryRequest)]
)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_bytes_make_a_stream_fail(
    kind: type[AnyStream], request_kind: type[Any], data: st.DataObject
) -> None:
    """Whatever comes, it is taken or it is a ProtocolError, and what is sent can be read."""
    stream = kind()
    for content in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()):
            stream.update(Snapshot(resource(t, "a", content) for t in (CLUSTER, ROUTE)))
        try:
            stream.receive_bytes(data.draw(requests(request_kind)))
        except ProtocolError:
            return
        told = 0
        while (response := stream.next()) is not None:
            read(stream, response)
            told += 1
        assert told <= len(stream.lanes), "one response in flight of each type"
