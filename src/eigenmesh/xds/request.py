"""What a client says, before it is believed: parsed, and within limits.

One client must not make the server remember without end, nor keep it busy for the others. What
passes a limit ends its stream and is told which limit that was. The largest request is gRPC's
limit of a received message, 4 MiB.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

TYPES = 32
"""Type URLs on a stream, since each is kept a lane; Envoy documents about ten."""

NAMES = 100_000
"""Names that a stream may follow, all types together, and as many that it may say it has.

Some 10 MB. As many names as fit into one request: SotW cannot even ask for more at once."""

NAME_LENGTH = 1_024
"""Characters of a name, a version or a type URL. The longest in use are Kubernetes services with
port and subset, about 350."""

NODE_SIZE = 512 * 1024
"""Bytes of the node. Envoy lists its extensions in it, which takes some 50 kB; Istio adds labels
and annotations, and Kubernetes allows 256 kB of those."""

TEXT_LENGTH = 8_192
"""Characters that are kept of a NACK's text. Envoy itself cuts it after 4,096."""

M = TypeVar("M", bound=Message)


class ProtocolError(Exception):
    """The client broke the protocol or passed a limit; the stream should end with this text."""


def parse_request(kind: type[M], data: bytes) -> M:
    """Raises ProtocolError."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ProtocolError(f"these {len(data)} bytes are no {kind.DESCRIPTOR.name}") from error


def check_count(field: str, count: int, limit: int) -> None:
    """Raises ProtocolError."""
    if count > limit:
        raise ProtocolError(f"{field}: {count} are more than the {limit} allowed on a stream")


def check_length(field: str, texts: Collection[str]) -> None:
    """Raises ProtocolError if one is too long."""
    longest = max(map(len, texts), default=0)
    if longest > NAME_LENGTH:
        raise ProtocolError(f"{field}: {longest} characters, and {NAME_LENGTH} are allowed")


def check_names(field: str, names: Collection[str]) -> None:
    """Those of one request. Raises ProtocolError."""
    check_count(field, len(names), NAMES)
    check_length(field, names)


def check_node(node: Any) -> None:
    """config.core.v3.Node. Raises ProtocolError."""
    if (size := node.ByteSize()) > NODE_SIZE:
        raise ProtocolError(f"node: {size} bytes, and {NODE_SIZE} are allowed")
    check_length("node", [node.id, node.cluster])
