"""Holes in the data, with real servers: each is told apart, and none of them is zero."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml

from eigenmesh.demo.processes import EnvoyProcess, PrometheusProcess, free_port
from eigenmesh.telemetry.prometheus import PrometheusSource

from .bed import HOST, ROUTES, TOPOLOGY, bootstrap, cluster
from .gateway import Gateway
from .scraped import INTERVAL, Scraped, until

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.mark.parametrize("ours", [60, -60])
async def test_clocks_that_differ_leave_samples_without_an_age(scraped: Scraped, ours: int) -> None:
    source = scraped.source()
    seen = await source.observe(time.time() + ours)
    await source.close()
    assert not seen.clusters
    why = seen.missing["mixed"]
    assert "from ours, samples have no age; set the clocks" in why
    assert any(f"clock is {off:+d} s" in why for off in range(-ours - 1, -ours + 2)), why


@pytest.mark.parametrize(
    ("said", "reason"),
    [({"warnings": ["a store is down"]}, "a store is down"), ({"isPartial": True}, "isPartial")],
)
async def test_a_partial_answer_is_no_data(
    scraped: Scraped, said: dict[str, object], reason: str
) -> None:
    def partial(body: bytes) -> bytes:
        return json.dumps({**json.loads(body), **said}).encode()

    async with Gateway(scraped.server.url, change=partial).running() as gateway:
        source = scraped.source(gateway.url)
        seen = await source.observe(time.time())
        await source.close()
    assert not seen.clusters
    assert seen.missing["a"].endswith(f"it is partial: {reason}")
    assert seen.source == gateway.url


async def test_a_scrape_that_is_stored_in_part_is_waited_for(scraped: Scraped) -> None:
    """Else the series that are not there yet would look like counters that went back."""

    def without_the_end(body: bytes) -> bytes:
        answer = json.loads(body)
        series = answer["data"]["result"]
        newest = max((s["values"][-1][0] for s in series), default=0.0)
        for one in series[::2]:
            one["values"] = [v for v in one["values"] if v[0] < newest] or one["values"]
        return json.dumps(answer).encode()

    async with Gateway(scraped.server.url, change=without_the_end).running() as gateway:
        source = scraped.source(gateway.url)
        await scraped.bed.burst("/b", 20)
        troubles: set[str] = set()
        for _ in range(6):
            seen = await source.observe(time.time())
            troubles.update(seen.missing.values())
            await asyncio.sleep(INTERVAL)
        await until(source, lambda o: o.complete)
        await source.close()
    assert not any("restarted" in trouble for trouble in troubles), troubles


async def test_a_store_that_stops_dies_and_comes_back_with_nothing(scraped: Scraped) -> None:
    target = f"127.0.0.1:{scraped.bed.envoy.admin_port}"
    store = PrometheusProcess([target], free_port(), interval=INTERVAL)
    async with store:
        source = PrometheusSource([store.url], TOPOLOGY, ROUTES, window=3.0, timeout=0.5)
        await until(source, lambda o: o.complete)
        os.kill(store.pid, signal.SIGSTOP)
        stopped = await source.observe(time.time())
        os.kill(store.pid, signal.SIGCONT)
        assert "no answer within 0.5 s" in stopped.missing["a"]
        await until(source, lambda o: o.complete)

        store.kill()
        dead = await source.observe(time.time())
        assert "cannot be read" in dead.missing["a"]
        shutil.rmtree(store.scratch / "data")
        store.start()
        await store.ready()
        await scraped.bed.burst("/b", 30)
        empty = await source.observe(time.time())
        assert not empty.clusters
        assert not empty.demands
        # The counters went on: what came meanwhile is spread over the time that it took.
        back = await until(source, lambda o: o.complete)
        assert round(back.demands["only-b"] * back.window) in (0, 30)
        await source.close()


async def test_a_proxy_that_joins_is_waited_for_and_one_that_left_is_named(
    scraped: Scraped,
) -> None:
    upstreams = scraped.bed.upstreams
    config = bootstrap(free_port(), [HOST], [cluster(n, p) for n, p in upstreams.items()])
    old = f"127.0.0.1:{scraped.bed.envoy.admin_port}"
    async with EnvoyProcess(config, free_port()) as envoy:
        new = f"127.0.0.1:{envoy.admin_port}"
        async with PrometheusProcess([old], free_port(), interval=INTERVAL) as store:

            def scrape(*targets: str) -> None:
                file: Path = store.scratch / "prometheus.yml"
                settings = yaml.safe_load(file.read_text())
                settings["scrape_configs"][0]["static_configs"] = [{"targets": list(targets)}]
                file.write_text(yaml.safe_dump(settings))
                os.kill(store.pid, signal.SIGHUP)

            source = PrometheusSource(
                [store.url], TOPOLOGY, ROUTES, window=3.0, timeout=3.0, max_age=2.0
            )
            alone = await until(source, lambda o: o.complete)
            assert [old in proxy for proxy in alone.proxies] == [True]
            scrape(old, new)
            waiting = await until(source, lambda o: any(new in w for w in o.missing.values()))
            assert not waiting.clusters
            both = await until(source, lambda o: o.complete and len(o.proxies) == 2)
            assert not both.left_out
            scrape(old)
            waiting = await until(source, lambda o: any(new in w for w in o.missing.values()))
            assert not waiting.clusters
            left = await until(source, lambda o: o.complete and len(o.proxies) == 1)
            [(gone, why)] = left.left_out.items()
            assert new in gone
            assert "newest sample is" in why
            await source.close()
