"""JSON in a blob, compressed, with a digest: what comes out is what went in, or an error.

SQLite checks the pages of its write-ahead log, not those of the file: a flipped bit in a plan would
still be a plan. The digest covers where the blob belongs, too, so that no row passes for another.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

_SIZE = 16


def seal(place: str, value: object) -> bytes:
    """place: table and key of the row that it is for."""
    packed = zlib.compress(json.dumps(value, separators=(",", ":")).encode())
    return _digest(place, packed) + packed


def unseal(place: str, blob: object) -> Any:
    """Raises ValueError when it is not what `seal` made for this place."""
    if not isinstance(blob, bytes) or blob[:_SIZE] != _digest(place, blob[_SIZE:]):
        raise ValueError(f"checksum of {place} is wrong")
    return json.loads(zlib.decompress(blob[_SIZE:]))


def _digest(place: str, packed: bytes) -> bytes:
    return hashlib.blake2b(place.encode() + b"\0" + packed, digest_size=_SIZE).digest()
