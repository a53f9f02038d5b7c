"""Pages of a list, after https://google.aip.dev/158.

A token says after which item the next page begins, not how many were before: what is added or
leaves meanwhile neither repeats nor hides anything else.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from eigenmesh.mesh import MeshError

T = TypeVar("T")

DEFAULT = 50
MOST = 1000


class Paged(Protocol):
    """A request for a page."""

    @property
    def page_size(self) -> int: ...
    @property
    def page_token(self) -> str: ...


def size_of(request: Paged, most: int = MOST) -> int:
    """Raises MeshError if it is negative."""
    if request.page_size < 0:
        raise MeshError("page_size", request.page_size, "use 0 for the default, or more")
    return min(request.page_size or DEFAULT, most)


def token_for(kind: str, key: object) -> str:
    return base64.urlsafe_b64encode(json.dumps([kind, key]).encode()).decode()


def key_in(request: Paged, kind: str) -> object:
    """Of the last item of the page before; None for the first page. Raises MeshError."""
    token = request.page_token
    if not token:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or len(found) != 2 or found[0] != kind or found[1] is None:
        raise MeshError("page_token", token, "repeat the next_page_token of the page before")
    key: object = found[1]
    return key


def number_in(request: Paged, kind: str) -> int:
    """Like `key_in`, of a list that is numbered downwards; 0 for the first page."""
    key = key_in(request, kind)
    if key is None:
        return 0
    if not isinstance(key, int) or not 0 < key < 2**63:
        raise MeshError("page_token", request.page_token, "repeat the next_page_token")
    return key


def page(
    request: Paged, kind: str, items: Iterable[T], key: Callable[[T], list[str]]
) -> tuple[list[T], str]:
    """The items of this page in the order of their keys, and the token of the next one."""
    size, after = size_of(request), key_in(request, kind)
    if after is not None and not (
        isinstance(after, list) and all(isinstance(part, str) for part in after)
    ):
        raise MeshError("page_token", request.page_token, "repeat the next_page_token")
    left = sorted(
        (one for one in items if not isinstance(after, list) or key(one) > after), key=key
    )
    return left[:size], token_for(kind, key(left[size - 1])) if len(left) > size else ""
