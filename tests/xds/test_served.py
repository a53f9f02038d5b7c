"""What a group is served when it refuses what was published."""

from __future__ import annotations

from eigenmesh.xds.resource import CLUSTER, ROUTE, RUNTIME, Key
from eigenmesh.xds.served import Served
from eigenmesh.xds.snapshot import Snapshot

from .support import resource


def content(route: object, runtime: object = 0, cluster: str = "a") -> Snapshot:
    return Snapshot(
        [
            resource(CLUSTER, cluster),
            resource(ROUTE, "r", route, needs=[(CLUSTER, cluster)]),
            resource(RUNTIME, "layer", runtime),
        ]
    )


def version(snapshot: Snapshot, key: Key) -> str:
    return snapshot.of(key[0]).resources[key[1]].version


R: Key = (ROUTE, "r")


def taken(served: Served, *types: str) -> None:
    """A client accepts what is served of these types."""
    assert served.snapshot is not None
    for type_url in types or (CLUSTER, ROUTE, RUNTIME):
        resources = served.snapshot.of(type_url)
        served.accepted(resources, resources.resources)


def refused(served: Served) -> tuple[Key, ...]:
    """The route that is served has stayed refused."""
    assert served.snapshot is not None
    return served.fall_back([(R, version(served.snapshot, R))])


def begun() -> Served:
    served = Served()
    served.publish(content("good"))
    taken(served)
    return served


def test_a_refused_version_gives_way_to_the_last_one_that_was_taken() -> None:
    served = begun()
    served.publish(content("bad", runtime=1))
    assert refused(served) == (R,)
    assert served.snapshot is not None
    assert version(served.snapshot, R) == version(content("good"), R)
    assert version(served.snapshot, (RUNTIME, "layer")) == version(
        content(0, 1), (RUNTIME, "layer")
    )
    assert served.published is not None
    assert version(served.published, R) == version(content("bad"), R), "it is still what should be"


def test_it_stays_given_up_until_its_content_changes() -> None:
    served = begun()
    served.publish(content("bad"))
    refused(served)
    served.publish(content("bad", runtime=2))
    assert served.snapshot is not None
    assert version(served.snapshot, R) == version(content("good"), R)
    served.publish(content("better", runtime=2))
    assert served.given_up == {}
    assert version(served.snapshot, R) == version(content("better"), R)


def test_what_was_never_taken_has_nothing_to_fall_back_to() -> None:
    served = Served()
    served.publish(content("bad"))
    taken(served, CLUSTER)
    assert refused(served) == ()
    assert served.snapshot is served.published


def test_of_two_clients_one_may_take_what_the_other_refuses() -> None:
    """The group is served one configuration: the one that both took."""
    served = begun()
    served.publish(content("disputed"))
    taken(served, ROUTE)
    assert refused(served) == (R,)
    assert served.snapshot is not None
    assert version(served.snapshot, R) == version(content("good"), R)


def test_a_cluster_that_the_older_route_needs_comes_back_with_it() -> None:
    """Otherwise the route would be right and its requests answered with 503."""
    served = begun()
    served.publish(content("bad", cluster="b"))
    refused(served)
    assert served.snapshot is not None
    assert set(served.snapshot.of(CLUSTER).resources) == {"a", "b"}


def test_a_refusal_of_what_is_served_no_more_changes_nothing() -> None:
    served = begun()
    served.publish(content("bad"))
    old = version(content("bad"), R)
    served.publish(content("better"))
    assert served.fall_back([(R, old)]) == ()
    assert served.snapshot is served.published
