"""Incremental xDS, scenario by scenario; each names its section of xds_protocol.rst."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from eigenmesh.xds.delta import DeltaStream
from eigenmesh.xds.request import ProtocolError
from eigenmesh.xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.stream import Ack, Nack

from .support import ask_delta, resource, snapshot, take, take_one


def begin(content: Snapshot | None, *requests: DeltaDiscoveryRequest) -> DeltaStream:
    stream = DeltaStream()
    stream.update(content)
    for request in requests:
        stream.receive(request)
    return stream


def acked(stream: DeltaStream, *requests: DeltaDiscoveryRequest) -> DeltaStream:
    """The stream with everything that is due sent and acknowledged."""
    for request in requests:
        stream.receive(request)
    while told := take(stream):
        for response in told:
            stream.receive(ask_delta(response.type_url, nonce=response.nonce))
    return stream


def test_nothing_is_sent_before_there_is_a_snapshot() -> None:
    stream = begin(None, ask_delta(CLUSTER))
    assert take(stream) == []
    stream.update(snapshot(CLUSTER, a=1))
    assert take_one(stream).names == ("a",)


def test_names_are_answered_and_unknown_ones_are_said_not_to_exist() -> None:
    """ "Knowing When a Requested Resource Does Not Exist"."""
    told = take_one(begin(snapshot(ROUTE, a=1, b=1), ask_delta(ROUTE, "a", "x")))
    assert (told.names, told.removed) == (("a",), ("x",))


def test_a_name_that_springs_into_existence_is_sent() -> None:
    stream = acked(begin(snapshot(ROUTE, a=1), ask_delta(ROUTE, "a", "x")))
    assert take(stream) == []
    stream.update(snapshot(ROUTE, a=1, x=1))
    assert take_one(stream).names == ("x",)


def test_only_what_changed_is_sent() -> None:
    """ "Grouping Resources into Responses"."""
    stream = acked(begin(snapshot(CLUSTER, a=1, b=1, c=1), ask_delta(CLUSTER)))
    stream.update(snapshot(CLUSTER, a=1, b=2))
    told = take_one(stream)
    assert (told.names, told.removed) == (("b",), ("c",))


def test_an_idle_stream_sends_nothing() -> None:
    stream = acked(begin(snapshot(CLUSTER, a=1), ask_delta(CLUSTER)))
    stream.update(snapshot(CLUSTER, a=1))
    assert take(stream) == []
    stream.receive(ask_delta(CLUSTER))
    assert take(stream) == []


def test_a_first_wildcard_is_answered_even_if_there_is_nothing() -> None:
    told = take_one(begin(Snapshot(), ask_delta(LISTENER)))
    assert (told.names, told.removed) == ((), ())


def test_other_types_than_listeners_and_clusters_need_names() -> None:
    assert take(begin(snapshot(ROUTE, a=1), ask_delta(ROUTE))) == []


def test_on_reconnect_nothing_is_resent_that_the_client_has() -> None:
    """ "Incremental xDS", initial_resource_versions."""
    content = snapshot(CLUSTER, a=1, b=1)
    known = {n: r.version for n, r in content.of(CLUSTER).resources.items()}
    stream = begin(content, ask_delta(CLUSTER, known=known))
    assert take(stream) == []
    assert stream.lanes[0].acked_version == content.of(CLUSTER).version

    told = take_one(begin(content, ask_delta(CLUSTER, known=known | {"a": "old", "gone": "1"})))
    assert (told.names, told.removed) == (("a",), ("gone",))

    named = snapshot(ROUTE, a=1, b=1)
    known = {n: r.version for n, r in named.of(ROUTE).resources.items()}
    told = take_one(begin(named, ask_delta(ROUTE, "a", "b", "c", known={"a": known["a"]})))
    assert (told.names, told.removed) == (("b",), ("c",))


def test_what_a_client_has_and_does_not_ask_for_is_not_spoken_of() -> None:
    told = take_one(begin(snapshot(ROUTE, a=1), ask_delta(ROUTE, "a", known={"gone": "1"})))
    assert (told.names, told.removed) == (("a",), ())


def test_subscribing_again_sends_again() -> None:
    """ "Subscribing to Resources": the client may have forgotten it."""
    stream = acked(begin(snapshot(ROUTE, a=1), ask_delta(ROUTE, "a", "x")))
    stream.receive(ask_delta(ROUTE, "a", "x"))
    told = take_one(stream)
    assert (told.names, told.removed) == (("a",), ("x",))


def test_an_unsubscribed_name_is_sent_no_more_and_again_when_it_comes_back() -> None:
    stream = acked(begin(snapshot(ROUTE, a=1), ask_delta(ROUTE, "a")))
    stream.receive(ask_delta(ROUTE, unsubscribe=["a", "phantom"]))
    stream.update(snapshot(ROUTE, a=2))
    assert take(stream) == []
    stream.receive(ask_delta(ROUTE, "a"))
    assert take_one(stream).names == ("a",)


def test_a_name_given_up_under_a_wildcard_is_sent_or_removed() -> None:
    """ "Unsubscribing from Resources", the exception."""
    stream = acked(begin(snapshot(CLUSTER, a=1), ask_delta(CLUSTER, "*", "a", "x")))
    stream.receive(ask_delta(CLUSTER, unsubscribe=["a", "x"]))
    told = take_one(stream)
    assert (told.names, told.removed) == (("a",), ("x",))


def test_leaving_the_wildcard_keeps_the_names() -> None:
    stream = acked(begin(snapshot(CLUSTER, a=1, b=1), ask_delta(CLUSTER)))
    acked(stream, ask_delta(CLUSTER, "a"))
    stream.receive(ask_delta(CLUSTER, unsubscribe=["*"]))
    stream.update(snapshot(CLUSTER, a=2, b=2))
    assert take_one(stream).names == ("a",)


def test_a_wildcard_that_comes_back_brings_everything_again() -> None:
    stream = acked(begin(snapshot(CLUSTER, a=1, b=1), ask_delta(CLUSTER, "*", "a")))
    acked(stream, ask_delta(CLUSTER, unsubscribe=["*"]))
    stream.receive(ask_delta(CLUSTER, "*"))
    assert take_one(stream).names == ("b",), "a never left"


def test_a_stale_nonce_still_subscribes() -> None:
    """ "Incremental xDS": the nonce must not be used to reject requests."""
    stream = acked(begin(snapshot(ROUTE, a=1, b=1), ask_delta(ROUTE, "a")))
    assert stream.receive(ask_delta(ROUTE, "b", nonce="stale", error="of long ago")) == ()
    assert take_one(stream).names == ("b",)


def test_a_nack_is_parked_until_the_content_changes() -> None:
    """ "When to send an update"."""
    stream = acked(begin(snapshot(ROUTE, a=1), ask_delta(ROUTE, "a")))
    good = stream.lanes[0].acked_version
    bad = snapshot(ROUTE, a="bad")
    stream.update(bad)
    told = take_one(stream)
    [nack] = stream.receive(ask_delta(ROUTE, nonce=told.nonce, error="no such thing"))
    assert nack == Nack(ROUTE, bad.of(ROUTE).version, frozenset({"a"}), "no such thing")
    [lane] = stream.lanes
    assert (lane.refused, lane.nacks) == ({"a": "no such thing"}, 1)
    assert lane.acked_version == good
    # Neither the passing of time, nor a spontaneous request, nor other content brings it back.
    stream.receive(ask_delta(ROUTE, "b"))
    stream.update(bad.replace([resource(CLUSTER, "c")]))
    assert [t.names for t in take(stream)] == [()], "b does not exist; a is not sent"
    assert lane.refused
    stream.update(snapshot(ROUTE, a=2))
    assert take(stream) == [], "one response in flight"
    acked(stream, ask_delta(ROUTE, nonce=lane.nonce))
    assert not lane.refused
    assert lane.acked_version == snapshot(ROUTE, a=2).of(ROUTE).version


def test_going_back_to_the_last_good_content_ends_a_nack() -> None:
    stream = acked(begin(snapshot(ROUTE, a=1), ask_delta(ROUTE, "a")))
    stream.update(snapshot(ROUTE, a="bad"))
    stream.receive(ask_delta(ROUTE, nonce=take_one(stream).nonce, error="no"))
    stream.update(snapshot(ROUTE, a=1))
    acked(stream)
    assert not stream.lanes[0].refused


def test_one_bad_resource_does_not_hold_back_the_good_ones_beside_it() -> None:
    stream = begin(snapshot(ROUTE, a=1, b=1, bad=1, c=1, d=1))
    stream.receive(ask_delta(ROUTE, "a", "b", "bad", "c", "d"))
    accepted: set[str] = set()
    sent = 0
    while told := take(stream):
        [response] = told
        sent += 1
        error = "it is bad" if "bad" in response.names else ""
        accepted |= set() if error else set(response.names)
        stream.receive(ask_delta(ROUTE, nonce=response.nonce, error=error))
    assert accepted == {"a", "b", "c", "d"}
    [lane] = stream.lanes
    assert lane.refused == {"bad": "it is bad"}
    assert lane.acked_version == "", "not all of it is accepted"
    assert sent <= 2 * 5


def test_what_was_refused_is_not_tried_in_parts_once_it_has_changed() -> None:
    stream = begin(snapshot(ROUTE, a=1, b=1), ask_delta(ROUTE, "a", "b"))
    told = take_one(stream)
    stream.receive(ask_delta(ROUTE, nonce=told.nonce, error="no"))
    better = snapshot(ROUTE, a=2, b=2)
    stream.update(better)
    told = take_one(stream)
    assert told.names == ("a", "b")
    stream.receive(ask_delta(ROUTE, nonce=told.nonce))
    assert take(stream) == []
    assert stream.lanes[0].acked_version == better.of(ROUTE).version


def test_what_was_refused_alone_is_parked_though_it_was_refused_in_company_before() -> None:
    stream = begin(snapshot(ROUTE, a=1, b=1), ask_delta(ROUTE, "a", "b"))
    stream.receive(ask_delta(ROUTE, nonce=take_one(stream).nonce, error="no"))
    stream.update(snapshot(ROUTE, a=2, b=1))
    told = []
    while responses := take(stream):
        told += [response.names for response in responses]
        stream.receive(ask_delta(ROUTE, nonce=responses[0].nonce, error="no"))
    assert sorted(told) == [("a",), ("b",)]


def test_who_refuses_without_end_leaves_no_more_to_try_in_parts() -> None:
    names = tuple("abcdefgh")
    stream = begin(Snapshot(resource(ROUTE, n) for n in names), ask_delta(ROUTE, *names))
    for _ in range(100):
        stream.receive(ask_delta(ROUTE, nonce=take_one(stream).nonce, error="no"))
        stream.receive(ask_delta(ROUTE, *names))
    tried = 0
    while told := take(stream):
        tried += 1
        stream.receive(ask_delta(ROUTE, nonce=told[0].nonce, error="no"))
    assert tried <= 2 * len(names)


def test_latest_wins_while_a_response_is_in_flight() -> None:
    stream = begin(snapshot(CLUSTER, a=1), ask_delta(CLUSTER))
    first = take_one(stream)
    for content in (2, 3, 4):
        stream.update(snapshot(CLUSTER, a=content))
        assert take(stream) == []
    [ack] = stream.receive(ask_delta(CLUSTER, nonce=first.nonce))
    assert isinstance(ack, Ack)
    told = take_one(stream)
    assert told.versions == {"a": snapshot(CLUSTER, a=4).of(CLUSTER).resources["a"].version}


def test_a_change_back_while_in_flight_is_still_told() -> None:
    stream = acked(begin(snapshot(CLUSTER, a=1), ask_delta(CLUSTER)))
    stream.update(snapshot(CLUSTER, a=2))
    flying = take_one(stream)
    stream.update(snapshot(CLUSTER, a=1))
    stream.receive(ask_delta(CLUSTER, nonce=flying.nonce))
    assert take_one(stream).names == ("a",)


def eds_cluster(name: str, content: int) -> Snapshot:
    return Snapshot(
        [
            resource(CLUSTER, name, content, warms=[(ENDPOINT, name)]),
            resource(ENDPOINT, name),
        ]
    )


def test_a_changed_eds_cluster_gets_its_endpoints_again() -> None:
    """ "Resource warming": otherwise Envoy waits 15 s for them."""
    stream = begin(eds_cluster("a", 1), ask_delta(CLUSTER), ask_delta(ENDPOINT, "a"))
    acked(stream)
    stream.update(eds_cluster("a", 2))
    assert [t.type_url for t in take(stream)] == [CLUSTER, ENDPOINT]


def test_a_snapshot_goes_out_clusters_first_and_the_runtime_last() -> None:
    """ "Eventual consistency considerations"."""
    types = (ROUTE, RUNTIME, LISTENER, CLUSTER, ENDPOINT)
    contents = [Snapshot(resource(t, "x", c) for t in types) for c in (1, 2)]
    stream = acked(begin(contents[0], *(ask_delta(t, "x") for t in types)))
    stream.update(contents[1])
    order = [t.type_url for t in take(stream)]
    assert order == [CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME]


def routed(*clusters: str) -> Snapshot:
    needs = [(CLUSTER, c) for c in clusters]
    return Snapshot(
        [resource(CLUSTER, c) for c in clusters] + [resource(ROUTE, "r", clusters, needs=needs)]
    )


def test_a_route_waits_until_its_new_cluster_is_accepted() -> None:
    """The same section: make before break. Envoy answers when the cluster is warm."""
    stream = acked(begin(routed("a"), ask_delta(CLUSTER), ask_delta(ROUTE, "r")))
    stream.update(routed("a", "b"))
    clusters = take_one(stream)
    assert (clusters.type_url, clusters.names) == (CLUSTER, ("b",))
    assert stream.lanes[-1].acked_version == routed("a").of(ROUTE).version
    stream.receive(ask_delta(CLUSTER, nonce=clusters.nonce))
    assert take_one(stream).type_url == ROUTE


def test_a_route_does_not_follow_a_cluster_that_was_refused() -> None:
    stream = acked(begin(routed("a"), ask_delta(CLUSTER), ask_delta(ROUTE, "r")))
    stream.update(routed("a", "bad"))
    told = take_one(stream)
    stream.receive(ask_delta(CLUSTER, nonce=told.nonce, error="bad"))
    assert take(stream) == []
    stream.update(routed("a", "c"))
    order = []
    while responses := take(stream):
        for response in responses:
            order.append((response.type_url, response.names))
            stream.receive(ask_delta(response.type_url, nonce=response.nonce))
    assert order == [(CLUSTER, ("c",)), (ROUTE, ("r",))]


def test_a_removed_cluster_is_withdrawn_when_the_routes_are_accepted() -> None:
    """Make before break: add, shift, remove."""
    stream = acked(begin(routed("a"), ask_delta(CLUSTER), ask_delta(ROUTE, "r")))
    stream.update(routed("b"))
    added = take_one(stream)
    assert (added.type_url, added.names, added.removed) == (CLUSTER, ("b",), ())
    stream.receive(ask_delta(CLUSTER, nonce=added.nonce))
    shifted = take_one(stream)
    assert (shifted.type_url, shifted.names) == (ROUTE, ("r",))
    stream.receive(ask_delta(ROUTE, nonce=shifted.nonce))
    removed = take_one(stream)
    assert (removed.type_url, removed.names, removed.removed) == (CLUSTER, (), ("a",))


def test_what_was_put_off_and_then_given_up_leaves_the_client_in_step() -> None:
    """Envoy stops following the endpoints of a cluster when that goes, before they are removed."""
    before = Snapshot([resource(CLUSTER, "c"), resource(ENDPOINT, "c"), resource(ENDPOINT, "d")])
    stream = acked(begin(before, ask_delta(CLUSTER), ask_delta(ENDPOINT, "c", "d")))
    after = Snapshot([resource(ENDPOINT, "d", "new")])
    stream.update(after)
    gone, changed = take(stream)
    assert (gone.removed, changed.names, changed.removed) == (("c",), ("d",), ())
    stream.receive(ask_delta(ENDPOINT, nonce=changed.nonce))
    stream.receive(ask_delta(ENDPOINT, unsubscribe=["c"]))
    stream.receive(ask_delta(CLUSTER, nonce=gone.nonce))
    assert take(stream) == []
    assert stream.lanes[1].acked_version == after.of(ENDPOINT).version


def test_a_cluster_stays_while_the_client_refuses_to_leave_it() -> None:
    stream = acked(begin(routed("a"), ask_delta(CLUSTER), ask_delta(ROUTE, "r")))
    stream.update(routed("b"))
    for error in ("", "not this table"):
        told = take_one(stream)
        stream.receive(ask_delta(told.type_url, nonce=told.nonce, error=error))
    assert take(stream) == []


def test_a_cluster_in_flight_does_not_hold_back_weights_of_known_clusters() -> None:
    stream = acked(begin(routed("a", "b"), ask_delta(CLUSTER), ask_delta(ROUTE, "r")))
    changed = routed("a", "b").replace(
        [
            resource(CLUSTER, "slow to warm"),
            resource(ROUTE, "r", "new weights", needs=[(CLUSTER, "a"), (CLUSTER, "b")]),
        ]
    )
    stream.update(changed)
    assert [t.type_url for t in take(stream)] == [CLUSTER, ROUTE]


def test_what_had_to_wait_and_is_as_it_was_again_is_not_told_again() -> None:
    """ "When to send an update". Neither the withdrawal of b nor the route to c was ever sent."""
    before = routed("a", "b")
    stream = acked(begin(before, ask_delta(CLUSTER), ask_delta(ROUTE, "r")))
    stream.update(routed("a", "c"))
    clusters = take_one(stream)
    assert (clusters.names, clusters.removed) == (("c",), ())
    stream.update(before.replace([resource(CLUSTER, "c")]))
    stream.receive(ask_delta(CLUSTER, nonce=clusters.nonce))
    assert take(stream) == []


def test_what_is_given_up_while_it_is_in_flight_cannot_be_refused() -> None:
    """Else the stream would wait for it for ever, and never withdraw the cluster."""
    stream = acked(begin(routed("a"), ask_delta(CLUSTER), ask_delta(ROUTE, "r")))
    stream.update(routed("a").replace([resource(ROUTE, "r", "bad", needs=[(CLUSTER, "a")])]))
    told = take_one(stream)
    stream.receive(ask_delta(ROUTE, unsubscribe=["r"]))
    stream.receive(ask_delta(ROUTE, nonce=told.nonce, error="no"))
    assert not stream.lanes[-1].refused
    stream.update(Snapshot())
    assert take_one(stream).removed == ("a",)


def test_the_node_is_taken_from_the_first_request() -> None:
    """ "Basic Protocol Overview"."""
    stream = begin(None, ask_delta(CLUSTER, node="one"), ask_delta(LISTENER))
    assert stream.node is not None
    assert stream.node.id == "one"


def test_a_stream_of_one_type_knows_its_type_and_refuses_others() -> None:
    stream = DeltaStream(CLUSTER)
    stream.update(snapshot(CLUSTER, a=1))
    stream.receive(ask_delta(""))
    assert take_one(stream).type_url == CLUSTER
    with pytest.raises(ProtocolError, match="RouteConfiguration on a stream of"):
        stream.receive(ask_delta(ROUTE))
    with pytest.raises(ProtocolError, match="type_url is empty"):
        DeltaStream().receive(ask_delta(""))
