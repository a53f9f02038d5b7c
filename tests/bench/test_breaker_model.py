"""The breaker model against a real Envoy, in short; `make bench-breaker-model` is the whole."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp

from bench.breakers import model_report
from bench.breakers.model import PROTOCOLS, SLOTS, Rig, rig, run


def test_the_model_is_within_three_points_of_envoy() -> None:
    loads, limits = (0.8, 1.2), (2 * SLOTS, 4 * SLOTS)
    cells = asyncio.run(run(4.0, ["poisson"], loads, limits))
    assert len(cells) == len(PROTOCOLS) * 4
    assert any(cell.envoy > 0.05 for cell in cells)
    for cell in cells:
        assert abs(cell.off) < 0.03 + 2.0 * cell.error, cell
    assert f"of {len(cells)} are within 3 points" in model_report.table(cells)


async def burst(envoy: Rig, protocol: str, count: int) -> Counter[int]:
    """Statuses of requests sent at once, each of which takes long."""
    url = f"http://127.0.0.1:{envoy.port}/{protocol}"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"x-demand": "8"}) as client:

        async def one() -> int:
            async with client.get(url) as response:
                await response.read()
                return response.status

        return Counter(await asyncio.gather(*(one() for _ in range(count))))


WIDE = {"max_requests": 1000, "max_connections": 1000, "max_pending_requests": 1000}


def test_http1_connections_pending_and_active_requests_are_limits_of_their_own() -> None:
    async def check() -> None:
        async with rig() as envoy:
            # Connections bind first, and then what waits for one of them: 4 are open already.
            await envoy.limit(**WIDE | {"max_connections": 4})
            assert await burst(envoy, "http1", 4) == {200: 4}
            await envoy.limit(**WIDE | {"max_connections": 4, "max_pending_requests": 6})
            assert await burst(envoy, "http1", 20) == {200: 10, 503: 10}
        async with rig() as envoy:
            # While connections open, requests are pending: a cold pool rejects what a warm one
            # takes at once.
            await envoy.limit(**WIDE | {"max_pending_requests": 2})
            assert (await burst(envoy, "http1", 20))[503] > 10
            await envoy.limit(**WIDE)
            assert await burst(envoy, "http1", 20) == {200: 20}
            await envoy.limit(**WIDE | {"max_pending_requests": 2})
            assert await burst(envoy, "http1", 20) == {200: 20}
            # Pending requests do not count for max_requests, only active ones.
            await envoy.limit(**WIDE | {"max_requests": 4})
            assert await burst(envoy, "http1", 20) == {200: 4, 503: 16}

    asyncio.run(check())


def test_http2_is_limited_by_requests_not_by_connections() -> None:
    async def check() -> None:
        async with rig() as envoy:
            await envoy.limit(**WIDE | {"max_connections": 1})
            assert await burst(envoy, "http2", 20) == {200: 20}
            await envoy.limit(**WIDE | {"max_connections": 1, "max_requests": 4})
            assert await burst(envoy, "http2", 20) == {200: 4, 503: 16}

    asyncio.run(check())
