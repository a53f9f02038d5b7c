from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import hypothesis.strategies as st
import pytest
from hypothesis import given

from eigenmesh.telemetry.aside import aside, consume, empty


async def test_no_collection_while_any_work_goes_on() -> None:
    assert gc.isenabled()
    first, second = threading.Event(), threading.Event()

    def wait(event: threading.Event) -> bool:
        event.wait(10.0)
        return gc.isenabled()

    works = [asyncio.create_task(aside(wait, event)) for event in (first, second)]
    while gc.isenabled():
        await asyncio.sleep(0.001)
    first.set()
    assert await works[0] is False
    assert not gc.isenabled()
    second.set()
    assert await works[1] is False
    assert gc.isenabled()


async def test_a_failure_comes_back_and_collections_go_on() -> None:
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 / 0)
    assert gc.isenabled()


async def test_the_event_loop_gets_its_turn() -> None:
    """Beside a thread that computes, by how often the loop ran: at turns of 5 ms it is a fifth."""
    stop = False

    def compute() -> int:
        n = 0
        while not stop:
            n += 1
        return n

    work = asyncio.create_task(aside(compute))
    turns, until = 0, asyncio.get_running_loop().time() + 0.5
    while asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0)
        turns += 1
    stop = True
    assert await work > 0
    assert turns > 20


@given(st.lists(st.integers()))
def test_what_is_consumed_comes_in_order(items: list[int]) -> None:
    before = list(items)
    assert list(consume(items)) == before
    assert not items


class Thing: ...


def test_what_is_consumed_is_let_go_one_by_one() -> None:
    things = [Thing() for _ in range(4)]
    alive = [weakref.ref(thing) for thing in things]
    for n, _ in enumerate(consume(things)):
        assert [one() is None for one in alive] == [k < n for k in range(4)]


def test_what_is_emptied_lets_go() -> None:
    things = {n: Thing() for n in range(4)}
    alive = [weakref.ref(thing) for thing in things.values()]
    empty(things)
    assert not things
    assert all(one() is None for one in alive)
