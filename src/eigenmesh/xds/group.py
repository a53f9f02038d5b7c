"""A group of nodes: what it is served, what single nodes of it are served instead, and who is
connected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from eigenmesh.xds.resource import Key, Resource
from eigenmesh.xds.served import Served
from eigenmesh.xds.snapshot import Snapshot

C = TypeVar("C")


@dataclass(eq=False)
class Group(Generic[C]):
    """connections: of its nodes. since: type URL -> its version, and when it was published.

    refused: what is given some more time before the group falls back from it. own: node -> a
    resource that it is served in place of the group's of the same name.
    """

    served: Served = field(default_factory=Served)
    connections: set[C] = field(default_factory=set)
    since: dict[str, tuple[str, float]] = field(default_factory=dict)
    refused: set[Key] = field(default_factory=set)
    own: dict[str, Resource] = field(default_factory=dict)
    _made: dict[str, tuple[Snapshot, Resource, Snapshot]] = field(default_factory=dict)
    _own_since: dict[str, tuple[str, float]] = field(default_factory=dict)

    def publish(self, snapshot: Snapshot, own: Mapping[str, Resource] | None, now: float) -> None:
        self.served.publish(snapshot)
        if own is not None:
            self.tailor(own, self.own.keys() - own.keys(), now)
        self.note_versions(now)

    def tailor(
        self, own: Mapping[str, Resource], dropped: set[str] | frozenset[str], now: float
    ) -> None:
        """These nodes get resources of their own; those `dropped` get the group's again."""
        for node in dropped:
            self.own.pop(node, None)
            self._made.pop(node, None)
            self._own_since.pop(node, None)
        for node, resource in own.items():
            before = self.own.get(node)
            if before is None or before.version != resource.version:
                self.own[node] = resource
                self._own_since[node] = resource.version, now

    def snapshot_of(self, node: str) -> Snapshot | None:
        """What the node is served now. Where the group has fallen back from a resource, all of it
        has."""
        served = self.served.snapshot
        own = self.own.get(node)
        if served is None or own is None or (own.type_url, own.name) in self.served.given_up:
            return served
        base, resource, made = self._made.get(node, (None, None, None))
        if base is not served or resource is not own or made is None:
            made = served.replace([own])
            self._made[node] = served, own, made
        return made

    def is_own(self, node: str, key: Key) -> bool:
        own = self.own.get(node)
        return own is not None and (own.type_url, own.name) == key

    def note_versions(self, now: float) -> None:
        assert self.served.snapshot is not None
        for type_url in self.served.snapshot.type_urls:
            version = self.served.snapshot.of(type_url).version
            if self.since.get(type_url, ("", 0.0))[0] != version:
                self.since[type_url] = (version, now)

    def age(self, node: str, type_url: str, version: str, now: float) -> float | None:
        """Seconds since the node's content of the type was published, if this is its version."""
        snapshot = self.snapshot_of(node)
        if snapshot is None or snapshot.of(type_url).version != version:
            return None
        since = self.since.get(type_url, (version, now))[1]
        own = self.own.get(node)
        if own is not None and own.type_url == type_url:
            since = max(since, self._own_since[node][1])
        return now - since
