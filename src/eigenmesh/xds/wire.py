"""The little of protobuf's wire format that lets a response be joined from cached bytes.

A message is the concatenation of its fields, so a response is its cached resources with a nonce
appended. Source: the Protocol Buffers encoding guide.
"""

from __future__ import annotations

_LENGTH_DELIMITED = 2


def varint(value: int) -> bytes:
    """Base-128, least significant group first; `value` is 0 or more."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: bytes | str) -> bytes:
    """One string, bytes or message field."""
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(data)) + data
