"""Snapshots: versions follow content and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenmesh.mesh import MeshError
from eigenmesh.xds.resource import CLUSTER, ROUTE, Resource, digest
from eigenmesh.xds.snapshot import Snapshot

Content = dict[tuple[str, str], int]

keys = st.tuples(st.sampled_from([CLUSTER, ROUTE]), st.sampled_from("abcde"))
contents = st.dictionaries(keys, st.integers(0, 2), max_size=8)


def resource(type_url: str, name: str, content: int) -> Resource:
    packed = f"{type_url}{name}{content}".encode()
    return Resource(type_url, name, digest(packed), packed)


def resources(content: Content) -> list[Resource]:
    return [resource(t, n, c) for (t, n), c in content.items()]


@settings(deadline=None)
@given(contents, contents, st.sets(keys, max_size=4))
def test_replacing_gives_what_building_anew_gives(
    before: Content, new: Content, removed: set[tuple[str, str]]
) -> None:
    changed = Snapshot(resources(before)).replace(resources(new), removed)
    after = {k: c for k, c in before.items() if k not in removed} | new
    built = Snapshot(resources(after))
    assert changed.version == built.version
    for type_url in (CLUSTER, ROUTE):
        assert changed.of(type_url).version == built.of(type_url).version
        assert dict(changed.of(type_url).resources) == dict(built.of(type_url).resources)


@settings(deadline=None)
@given(contents, contents)
def test_versions_are_equal_exactly_when_contents_are(one: Content, other: Content) -> None:
    same = Snapshot(resources(one)).version == Snapshot(reversed(resources(other))).version
    assert same == (one == other)


@settings(deadline=None)
@given(contents, contents)
def test_changed_since_names_what_differs(before: Content, after: Content) -> None:
    old, new = Snapshot(resources(before)).of(ROUTE), Snapshot(resources(after)).of(ROUTE)
    names = {n for t, n in before.keys() | after.keys() if t == ROUTE}
    differing = {n for n in names if before.get((ROUTE, n)) != after.get((ROUTE, n))}
    assert new.changed_since(old) == differing
    assert new.changed_since(old) == differing, "the remembered answer"


def test_nothing_is_touched_that_does_not_change() -> None:
    snapshot = Snapshot([resource(CLUSTER, "a", 0), resource(ROUTE, "r", 0)])
    assert snapshot.replace([resource(ROUTE, "r", 0)]) is snapshot
    assert snapshot.replace([], [(ROUTE, "unknown"), ("no.such.Type", "x")]) is snapshot
    changed = snapshot.replace([resource(ROUTE, "r", 1)])
    assert changed.of(CLUSTER) is snapshot.of(CLUSTER)
    assert changed.of(ROUTE) is not snapshot.of(ROUTE)


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(MeshError, match=r"snapshot\.Cluster: 'a': make names unique"):
        Snapshot([resource(CLUSTER, "a", 0), resource(CLUSTER, "a", 1)])
