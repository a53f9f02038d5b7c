"""State-of-the-world xDS, scenario by scenario; each names its section of xds_protocol.rst."""

from __future__ import annotations

import pytest

from eigenmesh.xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.sotw import SotwStream
from eigenmesh.xds.stream import Nack

from .support import ask_sotw, resource, snapshot, take, take_one


class Client:
    """Remembers names by type, as a SotW client must: every request carries them all."""

    def __init__(self, content: Snapshot | None) -> None:
        self.stream = SotwStream()
        self.stream.update(content)
        self.names: dict[str, tuple[str, ...]] = {}
        self.nonces: dict[str, str] = {}

    def ask(self, type_url: str, *names: str, nonce: str = "", version: str = "") -> None:
        self.names[type_url] = names
        self.stream.receive(ask_sotw(type_url, *names, nonce=nonce, version=version))

    def answer(self, type_url: str, nonce: str, error: str = "") -> tuple[object, ...]:
        names = self.names[type_url]
        self.nonces[type_url] = nonce
        return self.stream.receive(ask_sotw(type_url, *names, nonce=nonce, error=error))

    def settle(self) -> list[tuple[str, tuple[str, ...]]]:
        """Takes and accepts everything; returns what came."""
        came = []
        while told := take(self.stream):
            for response in told:
                came.append((response.type_url, response.names))
                self.answer(response.type_url, response.nonce)
        return came


def test_clusters_and_listeners_are_sent_whole() -> None:
    """ "Grouping Resources into Responses"."""
    client = Client(snapshot(CLUSTER, a=1, b=1))
    client.ask(CLUSTER)
    assert client.settle() == [(CLUSTER, ("a", "b"))]
    client.stream.update(snapshot(CLUSTER, a=2, b=1))
    assert client.settle() == [(CLUSTER, ("a", "b"))]
    client.stream.update(snapshot(CLUSTER, a=2))
    assert client.settle() == [(CLUSTER, ("a",))], "left out is removed"
    client.stream.update(Snapshot())
    assert client.settle() == [(CLUSTER, ())], "an empty response removes the last one"


def test_of_other_types_only_what_changed_is_sent() -> None:
    client = Client(snapshot(ROUTE, a=1, b=1, c=1))
    client.ask(ROUTE, "a", "b")
    assert client.settle() == [(ROUTE, ("a", "b"))]
    client.stream.update(snapshot(ROUTE, a=2, b=1, c=2))
    assert client.settle() == [(ROUTE, ("a",))]
    client.stream.update(snapshot(ROUTE, a=2, b=1, c=3))
    assert client.settle() == [], "c is not subscribed"


def test_a_name_that_springs_into_existence_is_sent() -> None:
    """ "Knowing When a Requested Resource Does Not Exist"."""
    client = Client(snapshot(ROUTE, a=1))
    client.ask(ROUTE, "a", "x")
    assert client.settle() == [(ROUTE, ("a",))]
    client.stream.update(snapshot(ROUTE, a=1, x=1))
    assert client.settle() == [(ROUTE, ("x",))]


def test_a_removed_name_is_sent_again_when_it_is_back() -> None:
    client = Client(snapshot(ROUTE, a=1))
    client.ask(ROUTE, "a")
    client.settle()
    client.stream.update(Snapshot())
    assert client.settle() == []
    client.stream.update(snapshot(ROUTE, a=1))
    assert client.settle() == [(ROUTE, ("a",))]


def test_a_name_asked_for_again_is_sent_again() -> None:
    """ "How the client specifies what resources to return": also what did not change."""
    client = Client(snapshot(ROUTE, a=1, b=1))
    client.ask(ROUTE, "a", "b")
    client.settle()
    nonce = client.stream.lanes[0].nonce
    client.ask(ROUTE, "a", nonce=nonce)
    assert client.settle() == []
    client.ask(ROUTE, "a", "b", nonce=nonce)
    assert client.settle() == [(ROUTE, ("b",))]


def test_named_clusters_come_whole_and_an_unknown_one_is_answered() -> None:
    client = Client(snapshot(CLUSTER, a=1, b=1))
    client.ask(CLUSTER, "a")
    assert client.settle() == [(CLUSTER, ("a",))]
    nonce = client.stream.lanes[0].nonce
    client.ask(CLUSTER, "a", "x", nonce=nonce)
    assert client.settle() == [(CLUSTER, ("a",))], "its absence tells that x does not exist"
    client.ask(CLUSTER, "a", nonce=client.stream.lanes[0].nonce)
    assert client.settle() == []


def test_a_first_wildcard_is_answered_even_if_there_is_nothing() -> None:
    client = Client(Snapshot())
    client.ask(LISTENER)
    assert client.settle() == [(LISTENER, ())]
    client.ask(ROUTE)
    assert client.settle() == [(LISTENER, ())][1:], "routes have no wildcard"


def test_a_stale_nonce_is_met_with_silence() -> None:
    """ "Resource updates"."""
    client = Client(snapshot(ROUTE, a=1, b=1))
    client.ask(ROUTE, "a")
    client.settle()
    stale = client.stream.lanes[0].nonce
    client.stream.update(snapshot(ROUTE, a=2, b=1))
    told = take_one(client.stream)
    client.ask(ROUTE, "a", "b", nonce=stale)
    assert take(client.stream) == []
    assert client.stream.lanes[0].in_flight is not None, "it is no answer either"
    client.answer(ROUTE, told.nonce)
    assert client.settle() == [(ROUTE, ("b",))], "the answer names everything"


def test_a_request_before_the_first_response_arrives_is_honoured() -> None:
    client = Client(snapshot(ENDPOINT, a=1, b=1))
    client.ask(ENDPOINT, "a")
    first = take_one(client.stream)
    client.ask(ENDPOINT, "a", "b")
    assert take(client.stream) == [], "one response in flight"
    client.answer(ENDPOINT, first.nonce)
    assert client.settle() == [(ENDPOINT, ("b",))]


def test_a_nack_is_told_by_error_detail_and_parked() -> None:
    """ "ACK and NACK semantics summary", "When to send an update"."""
    client = Client(snapshot(CLUSTER, a=1))
    client.ask(CLUSTER)
    client.settle()
    bad = snapshot(CLUSTER, a="bad")
    client.stream.update(bad)
    told = take_one(client.stream)
    answers = client.answer(CLUSTER, told.nonce, error="no")
    assert answers == (Nack(CLUSTER, bad.of(CLUSTER).version, frozenset({"a"}), "no"),)
    assert take(client.stream) == []
    # A spontaneous request repeats the nonce without error_detail: not an ACK.
    assert client.answer(CLUSTER, told.nonce) == ()
    [lane] = client.stream.lanes
    assert lane.refused == {"a": "no"}
    assert take(client.stream) == []
    client.stream.update(snapshot(CLUSTER, a=2))
    assert client.settle() == [(CLUSTER, ("a",))]
    assert not lane.refused


def test_on_reconnect_a_wildcard_at_our_version_is_not_resent() -> None:
    """ "ACK/NACK and resource type instance version"."""
    content = snapshot(CLUSTER, a=1)
    client = Client(content)
    client.ask(CLUSTER, version=content.of(CLUSTER).version)
    assert client.settle() == []
    assert client.stream.lanes[0].acked_version == content.of(CLUSTER).version
    client.stream.update(snapshot(CLUSTER, a=2))
    assert client.settle() == [(CLUSTER, ("a",))]


def test_on_reconnect_names_and_other_versions_are_sent() -> None:
    """The same section: with names the version does not prove what the client has."""
    content = Snapshot([resource(ROUTE, "a"), resource(CLUSTER, "c")])
    client = Client(content)
    client.ask(ROUTE, "a", version=content.of(ROUTE).version)
    client.ask(CLUSTER, version="something else")
    assert client.settle() == [(CLUSTER, ("c",)), (ROUTE, ("a",))]


def test_a_changed_eds_cluster_gets_its_endpoints_again_and_others_do_not() -> None:
    def content(version: int) -> Snapshot:
        return Snapshot(
            [
                resource(CLUSTER, "a", version, warms=[(ENDPOINT, "a")]),
                resource(CLUSTER, "b", 0, warms=[(ENDPOINT, "b")]),
                resource(ENDPOINT, "a"),
                resource(ENDPOINT, "b"),
            ]
        )

    client = Client(content(1))
    client.ask(CLUSTER)
    client.settle()
    client.ask(ENDPOINT, "a", "b")
    client.settle()
    client.stream.update(content(2))
    assert client.settle() == [(CLUSTER, ("a", "b")), (ENDPOINT, ("a",))]


def test_a_snapshot_goes_out_clusters_first_and_the_runtime_last() -> None:
    """ "Eventual consistency considerations"."""
    types = (RUNTIME, ROUTE, LISTENER, ENDPOINT, CLUSTER)
    contents = [Snapshot(resource(t, "x", c) for t in types) for c in (1, 2)]
    client = Client(contents[0])
    for type_url in types:
        client.ask(type_url, "x")
    client.settle()
    client.stream.update(contents[1])
    order = [t for t, _ in client.settle()]
    assert order == [CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME]


def test_one_body_serves_every_wildcard() -> None:
    content = snapshot(CLUSTER, a=1, b=1)
    bodies = []
    for _ in range(2):
        client = Client(content)
        client.ask(CLUSTER)
        response = client.stream.next()
        assert response is not None
        bodies.append(response.body)
    assert bodies[0] == bodies[1]
    assert content.of(CLUSTER).sotw_body is content.of(CLUSTER).sotw_body


def routed(*clusters: str, kind: str = ROUTE) -> Snapshot:
    needs = [(CLUSTER, c) for c in clusters]
    return Snapshot(
        [resource(CLUSTER, c) for c in clusters] + [resource(kind, "r", clusters, needs=needs)]
    )


@pytest.mark.parametrize("kind", [ROUTE, LISTENER])
def test_what_needs_a_new_cluster_waits_until_that_is_accepted(kind: str) -> None:
    """ "Eventual consistency considerations": make before break."""
    client = Client(routed("a", kind=kind))
    client.ask(CLUSTER)
    client.ask(kind, "r")
    client.settle()
    client.stream.update(routed("a", "b", kind=kind))
    told = take_one(client.stream)
    assert (told.type_url, told.names) == (CLUSTER, ("a", "b"))
    client.answer(CLUSTER, told.nonce)
    assert client.settle() == [(kind, ("r",))]


@pytest.mark.parametrize("kind", [ROUTE, LISTENER])
def test_a_removed_cluster_is_sent_on_until_what_used_it_is_replaced(kind: str) -> None:
    """Make before break, though what a response leaves out is removed: add, shift, remove."""
    client = Client(routed("a", kind=kind))
    client.ask(CLUSTER)
    client.ask(kind, "r")
    client.settle()
    client.stream.update(routed("b", kind=kind))
    both = take_one(client.stream)
    assert (both.type_url, both.names) == (CLUSTER, ("b", "a"))
    assert both.version != routed("b", kind=kind).of(CLUSTER).version, "it is other content"
    client.answer(CLUSTER, both.nonce)
    assert client.settle() == [(kind, ("r",)), (CLUSTER, ("b",))]
    assert client.stream.lanes[0].acked_version == routed("b", kind=kind).of(CLUSTER).version


def test_a_client_that_names_the_clusters_of_its_routes_gives_them_up_itself() -> None:
    """gRPC accepts routes before it has moved to their clusters; one that it still names is in
    use, and losing it would fail requests."""
    client = Client(routed("a"))
    client.ask(ROUTE, "r")
    client.ask(CLUSTER, "a")
    client.settle()
    client.stream.update(routed("b"))
    assert client.settle() == [(ROUTE, ("r",))], "it has not asked for b yet"
    client.ask(CLUSTER, "a", "b", nonce=client.nonces[CLUSTER])
    assert client.settle() == [(CLUSTER, ("b", "a"))]
    assert client.stream.lanes[0].acked_version != routed("b").of(CLUSTER).version
    client.ask(CLUSTER, "b", nonce=client.nonces[CLUSTER])
    assert client.settle() == [], "it has b, and knows that a is gone"
    assert client.stream.lanes[0].acked_version == routed("b").of(CLUSTER).version


@pytest.mark.parametrize("version", ["", "of an earlier server"])
def test_routes_do_not_wait_for_clusters_that_a_returning_client_may_have(version: str) -> None:
    """It refuses all for one bad cluster and goes on with what it has; a new client has none."""
    client = Client(routed("a", "bad"))
    client.ask(CLUSTER, version=version)
    client.ask(ROUTE, "r")
    told = take_one(client.stream)
    client.answer(CLUSTER, told.nonce, error="bad")
    assert client.settle() == ([(ROUTE, ("r",))] if version else [])


def test_a_refused_resource_that_is_removed_is_refused_no_more() -> None:
    client = Client(snapshot(ROUTE, a=1))
    client.ask(ROUTE, "a")
    told = take_one(client.stream)
    client.answer(ROUTE, told.nonce, error="no")
    [lane] = client.stream.lanes
    assert lane.refused
    client.stream.update(Snapshot())
    assert client.settle() == []
    assert not lane.refused
