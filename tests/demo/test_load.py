"""The load generator against a real upstream: reproducible, open loop, and nothing gets lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from eigenmesh.demo.load import FAILED, UNANSWERED
from eigenmesh.demo.loadgen import LoadGenerator, Record
from eigenmesh.demo.processes import ChildProcess, free_port, http_get

RATES = {"shop": 150.0, "search": 50.0}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
    argv += ["--slots", "64", "--service-time", "0.002"]
    with ChildProcess("upstream", argv, ready_port=port):
        yield port


async def test_the_same_seed_sends_the_same_requests_at_the_same_times(port: int) -> None:
    seen: list[Record] = []
    async with LoadGenerator(port, on_record=seen.append) as load:
        for phase, seed in (("one", 7), ("two", 7), ("other", 8)):
            await load.begin(phase, RATES, seed=seed)
            await asyncio.sleep(0.8)
        await load.begin("quiet", {}, seed=0)
        await asyncio.sleep(0.3)
        await load.close()
    one, two, other = (load.table(p, 0.0, 0.7) for p in ("one", "two", "other"))
    assert len(one.offset) > 80
    assert set(one.route) == {"shop", "search"}
    assert np.all(one.status == 200)
    assert np.all(one.latency > 0)
    assert np.array_equal(one.offset, two.offset)
    assert np.array_equal(one.route, two.route)
    assert not np.array_equal(one.offset[:20], other.offset[:20])
    assert len(seen) == len(load.records)


async def test_a_rate_changes_no_other_route(port: int) -> None:
    async with LoadGenerator(port) as load:
        await load.begin("both", RATES, seed=3)
        await asyncio.sleep(0.5)
        await load.begin("one", {"shop": 150.0}, seed=3)
        await asyncio.sleep(0.5)
        await load.close()
    both, one = load.table("both", 0.0, 0.4), load.table("one", 0.0, 0.4)
    assert np.array_equal(both.offset[both.route == "shop"], one.offset)


async def test_requests_that_never_get_an_answer_are_counted(port: int) -> None:
    http_get(port, "/_control?hang=1")
    try:
        async with LoadGenerator(port) as load:
            await load.begin("hanging", RATES, seed=1)
            await asyncio.sleep(0.6)
            await load.close()
        hanging = load.table("hanging")
    finally:
        http_get(port, "/_control?hang=0&reset=1")
    # Open loop: nothing came back, and sending went on all the same.
    assert len(hanging.status) > 60
    assert np.all(hanging.status == UNANSWERED)
    age = hanging.offset + hanging.latency
    assert np.ptp(age) == pytest.approx(0.0, abs=0.05)  # all given up at the same moment


async def test_a_dead_proxy_is_a_failure_not_a_gap() -> None:
    async with LoadGenerator(free_port()) as load:
        await load.begin("nobody", {"shop": 100.0}, seed=1)
        await asyncio.sleep(0.5)
        await load.close()
    assert len(load.table("nobody").status) > 20
    assert np.all(load.table("nobody").status == FAILED)
