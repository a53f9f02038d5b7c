"""What the server tells of its clients, to whoever listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "connect", "disconnect", "refused", "reset", "subscribe", "sent", "ack", "nack", "fallback"
]


@dataclass(frozen=True, slots=True)
class XdsEvent:
    """Something that happened between the Envoys of a group and the server.

    connect, disconnect, refused and reset concern a stream: it began, it ended, its node is not
    served or not its certificate's, it did not read. subscribe: it asked for a type for the first
    time, and has not been answered. fallback: the group is served an older version of a resource,
    since it refused this one. detail: the reason. seconds: of an ack of what is current, since it
    was published.
    """

    kind: Kind
    node_id: str
    type_url: str = ""
    version: str = ""
    detail: str = ""
    group: str = ""
    seconds: float | None = None
