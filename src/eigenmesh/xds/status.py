"""What the server knows of each client, as values that can be shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eigenmesh.xds.node import Node
from eigenmesh.xds.stream import Lane


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """One type at one Envoy. It is in step when sent and acked version are the server's.

    names: what it asked for by name. nack: its words, empty unless something is refused now.
    nacks: how often it refused. age: seconds since it last answered, None if it never did.
    """

    type_url: str
    names: tuple[str, ...]
    wildcard: bool
    sent_version: str
    acked_version: str
    nack: str
    nacks: int
    age: float | None

    @classmethod
    def of(cls, lane: Lane, age: float | None) -> TypeStatus:
        return cls(
            type_url=lane.type_url,
            names=tuple(sorted(lane.subscription.names)),
            wildcard=lane.subscription.wildcard,
            sent_version=lane.sent_version,
            acked_version=lane.acked_version,
            nack="; ".join(sorted(set(lane.refused.values()))),
            nacks=lane.nacks,
            age=age,
        )


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One connected Envoy. age: seconds since it connected."""

    node_id: str
    node_cluster: str
    group: str
    peer: str
    age: float
    types: tuple[TypeStatus, ...]


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream of a client. answered: seconds since it last answered, by type URL."""

    node: Node
    group: str
    peer: str
    age: float
    lanes: tuple[Lane, ...]
    answered: dict[str, float]


def by_node(streams: Iterable[StreamStatus]) -> tuple[NodeStatus, ...]:
    """Streams of one connection and node are one entry; sorted by node."""
    grouped: dict[tuple[str, str, str, str], list[StreamStatus]] = {}
    for stream in streams:
        key = (stream.node.id, stream.node.cluster, stream.group, stream.peer)
        grouped.setdefault(key, []).append(stream)
    return tuple(
        NodeStatus(
            node_id=node_id,
            node_cluster=node_cluster,
            group=group,
            peer=peer,
            age=max(s.age for s in own),
            types=tuple(
                TypeStatus.of(lane, s.answered.get(lane.type_url)) for s in own for lane in s.lanes
            ),
        )
        for (node_id, node_cluster, group, peer), own in sorted(grouped.items())
    )
