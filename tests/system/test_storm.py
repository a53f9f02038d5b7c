"""A retry storm on a real Envoy: it outlasts its trigger, unless Eigenmesh damps it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.breakers import storm
from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.oracle import Upstream
from eigenmesh.demo.processes import EnvoyProcess, http_get

from .conftest import Stack, printed_bootstrap, upstream

STAYS_BAD = 8
"""Seconds after the trigger for which the storm must go on by itself."""
SOON = 10
"""Seconds after the trigger within which Eigenmesh has to end it."""
CALM, LAST = 5.0, 5.0
"""Seconds before the trigger, and those of which the end is judged."""
MARGIN = 0.9
"""Goodput of so few seconds varies by some percent, and is compared at this part of the goal."""


@pytest.fixture
async def stormy(tmp_path: Path) -> AsyncIterator[Stack]:
    ports = stage.Ports()
    settings: dict[str, Any] = {
        "interval": "1s",
        "solver": "classical",
        "journal": str(tmp_path / "journal.sqlite"),
        "xds": {"listen": f"127.0.0.1:{ports.xds}"},
        "api": {"listen": f"127.0.0.1:{ports.api}"},
        "http": {"listen": f"127.0.0.1:{ports.http}"},
        "node": {"admin": f"127.0.0.1:{ports.admin}"},
        "telemetry": {"envoy": {"admin": [f"http://127.0.0.1:{ports.admin}"]}},
        "envoy": {"static_resources": storm.resources(ports.envoy, ports.upstreams)},
    }
    (tmp_path / "eigenmesh.yaml").write_text(yaml.safe_dump(settings))
    bootstrap = printed_bootstrap(tmp_path / "eigenmesh.yaml")
    async with AsyncExitStack() as cleanup:
        for name in storm.CLUSTERS:
            one = Upstream(name, storm.SLOTS, storm.SERVICE)
            await cleanup.enter_async_context(upstream(one, ports))
        envoy = EnvoyProcess(bootstrap, ports.admin, log=tmp_path / "envoy.log")
        load = LoadGenerator(ports.envoy)
        running = Stack(tmp_path, ports, settings, envoy, load)
        cleanup.callback(running.stop_sidecars)
        running.start_eigenmesh()
        await cleanup.enter_async_context(envoy)
        await cleanup.enter_async_context(load)
        yield running


async def trigger(stack: Stack) -> None:
    for slower in (storm.SLOWER, 1.0):
        for name in storm.CLUSTERS:
            query = f"/_control?service_time={storm.SERVICE * slower}"
            assert http_get(stack.ports.upstreams[name], query)[0] == 200
        if slower > 1:
            await asyncio.sleep(storm.TRIGGER)


def attempts(stack: Stack) -> tuple[int, int]:
    """Attempts and retries so far."""
    stats = stack.envoy.stats(r"^cluster\.[ab]\.upstream_rq_(total|retry)$")
    found = [sum(n for k, n in stats.items() if k.endswith(x)) for x in ("total", "retry")]
    return found[0], found[1]


async def amplification(stack: Stack, seconds: float) -> float:
    """Attempts for each first attempt, in the next seconds."""
    before = attempts(stack)
    await asyncio.sleep(seconds)
    total, retries = (b - a for a, b in zip(before, attempts(stack), strict=True))
    return total / (total - retries)


def served(stack: Stack, phase: str, start: float, end: float) -> float:
    """Fraction of the requests that were meant to be sent from `start` to `end` seconds of the
    phase that was answered with 200."""
    status = stack.load.table(phase, start, end).status
    return float((status == 200).mean())


async def test_a_storm_outlasts_its_trigger_unless_it_is_damped(stormy: Stack) -> None:
    stack, rates = stormy, {storm.ROUTE: storm.DEMAND}
    over = CALM + storm.TRIGGER

    await stack.load.begin("left alone", rates, seed=1)
    await asyncio.sleep(CALM)
    await trigger(stack)
    assert await amplification(stack, STAYS_BAD) > 2.0, "the scenario is not metastable"
    assert 'eigenmesh_retry_storm{cluster="a"} 1.0' in stack.metrics()
    await stack.load.begin("pause", {}, seed=1)
    for name in storm.CLUSTERS:
        http_get(stack.ports.upstreams[name], "/_control?reset=1")
    await asyncio.sleep(1.5)  # the last attempts end
    async with stack.client() as client:
        await client.set_mode("auto")
        await stack.load.begin("damped", rates, seed=2)
        await asyncio.sleep(CALM)
        await trigger(stack)
        decision = await client.get_decision()
        await asyncio.sleep(SOON)
        afterwards = await amplification(stack, LAST)
    await stack.load.close()
    before = served(stack, "left alone", 1.0, CALM)
    assert served(stack, "left alone", over + 2.0, over + STAYS_BAD) < 0.2
    assert "retry storm on" in decision.why
    back = served(stack, "damped", over + SOON, over + SOON + LAST)
    assert back >= MARGIN * storm.RECOVERED * before
    assert afterwards <= 1.2
