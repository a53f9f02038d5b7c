"""Who a client says it is, and which group of nodes that makes it part of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from google.protobuf.json_format import MessageToDict

DEFAULT_GROUP = "default"


@dataclass(frozen=True, slots=True)
class Node:
    """config.core.v3.Node, as far as it tells who is asking; from a stream's first request."""

    id: str = ""
    cluster: str = ""
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, message: Any) -> Node:
        """From a config.core.v3.Node."""
        where = message.locality
        return cls(
            message.id,
            message.cluster,
            where.region,
            where.zone,
            where.sub_zone,
            MessageToDict(message.metadata) if message.HasField("metadata") else {},
        )


@dataclass(frozen=True, slots=True)
class NodeMatch:
    """Patterns in the shell's style (`*`, `?`, `[...]`), all of which must fit.

    metadata: pattern by key; a dot leads into a nested mapping, as in `labels.app`.
    """

    id: str = "*"
    cluster: str = "*"
    region: str = "*"
    zone: str = "*"
    sub_zone: str = "*"
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        names = ("id", "cluster", "region", "zone", "sub_zone")
        said = [f"{n} {getattr(self, n)}" for n in names if getattr(self, n) != "*"]
        said += [f"metadata {key} {pattern}" for key, pattern in self.metadata.items()]
        return ", ".join(said) or "every node"

    def fits(self, node: Node) -> bool:
        named = ("id", "cluster", "region", "zone", "sub_zone")
        return all(fnmatchcase(getattr(node, n), getattr(self, n)) for n in named) and all(
            fnmatchcase(_metadata(node.metadata, key), pattern)
            for key, pattern in self.metadata.items()
        )


@dataclass(frozen=True)
class Grouping:
    """The first group that a node fits is its own. strangers: the group of a node that fits none;
    None refuses it."""

    groups: Sequence[tuple[str, NodeMatch]] = ()
    strangers: str | None = DEFAULT_GROUP

    def of(self, node: Node) -> str | None:
        fits = (name for name, match in self.groups if match.fits(node))
        return next(fits, self.strangers)

    def refusal(self, node: Node) -> str:
        """What a node without a group is told."""
        names = ", ".join(name for name, _ in self.groups) or "none"
        return (
            f"node {node.id!r} of cluster {node.cluster!r} fits no group ({names}): "
            "add it to one in the settings (`groups`), or set `unknown_nodes: default`"
        )


def _metadata(metadata: Mapping[str, Any], key: str) -> str:
    """The value at a dotted key as text; empty if there is none."""
    value: Any = metadata.get(key)
    if value is None:
        value = metadata
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
