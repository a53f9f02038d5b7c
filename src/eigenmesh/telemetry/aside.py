"""Work on a thread that must not hold up the event loop's.

Python's threads take turns. Three things make a turn long: an interval of 5 ms before the
interpreter is handed on; a garbage collection, which no other thread can interrupt and which
tens of thousands of freshly read samples set off again and again (what is read here has no cycles,
so there is nothing for it to find); and the end of a large container, with which all that it holds
is freed in one turn.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

TURN = 0.001
"""Seconds after which a thread that computes is asked to let others go on."""

_lock = threading.Lock()
_at_work = 0


async def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `work`, from a thread, in short turns and without garbage collections."""
    if sys.getswitchinterval() > TURN:
        sys.setswitchinterval(TURN)
    return await asyncio.to_thread(_uncollected, partial(work, *args, **kwargs))


def consume(items: list[T]) -> Iterator[T]:
    """The items in their order. The list lets go of each as it comes, and ends empty."""
    items.reverse()
    while items:
        yield items.pop()


def empty(items: dict[Any, Any]) -> None:
    """Lets go of the items one by one."""
    while items:
        items.popitem()


def _uncollected(work: Callable[[], T]) -> T:
    global _at_work
    with _lock:
        _at_work += 1
        gc.disable()
    try:
        return work()
    finally:
        with _lock:
            _at_work -= 1
            if not _at_work:
                gc.enable()
