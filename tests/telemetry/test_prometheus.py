"""Telemetry by way of a real Prometheus that scrapes a real Envoy."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import promql_parser
import pytest

from eigenmesh.demo.processes import free_port
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource
from eigenmesh.telemetry.prometheus import PrometheusSource

from .bed import ROUTES, TOPOLOGY
from .scraped import INTERVAL, Scraped, until

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_both_sources_agree(scraped: Scraped) -> None:
    by_prometheus = scraped.source()
    direct = EnvoyAdminSource([scraped.bed.admin], TOPOLOGY, ROUTES, timeout=3.0)
    async with scraped.bed.traffic({"/mixed": 160, "/b": 60}):
        await asyncio.sleep(1.5)
        # Align: the direct scrape begins where the window of Prometheus does, within a scrape.
        await until(by_prometheus, lambda o: o.complete)
        await direct.observe(0.0)
        await asyncio.sleep(3.0)
        one = await direct.observe(time.time())
        await asyncio.sleep(2 * INTERVAL)
        other = await by_prometheus.observe(time.time())
    await direct.close()
    await by_prometheus.close()
    assert one.complete
    assert other.complete
    assert other.window == pytest.approx(one.window, abs=3 * INTERVAL)
    for name in TOPOLOGY.cluster_names:
        a, b = one.clusters[name], other.clusters[name]
        assert b.load == pytest.approx(a.load, rel=0.1)
        assert b.throughput == pytest.approx(a.throughput, rel=0.1)
        assert a.mean is not None
        assert b.mean == pytest.approx(a.mean, rel=0.1)
        assert b.quantiles[0.5] == pytest.approx(a.quantiles[0.5], rel=0.2)
        assert set(b.quantiles) == set(a.quantiles)
    for route, demand in one.demands.items():
        assert other.demands[route] == pytest.approx(demand, rel=0.1)


async def test_histograms_and_counters_tell_of_the_same_window(scraped: Scraped) -> None:
    source = scraped.source()
    await until(source, lambda o: o.complete and o.total_demand == 0)
    await scraped.bed.burst("/b", 40)
    total = timed = 0.0
    for _ in range(7):
        seen = await source.observe(time.time())
        if seen.complete:
            b = seen.clusters["b.svc"]
            done = round(b.throughput * seen.window)
            # Never one without the other.
            assert (done > 0) == (b.mean is not None)
            total += done
            timed += 1 if b.mean is not None else 0
        await asyncio.sleep(INTERVAL)
    await source.close()
    assert total == 40
    assert timed >= 1


async def test_the_query_is_promql_and_is_shown(scraped: Scraped) -> None:
    source = scraped.source()
    seen = await until(source, lambda o: o.complete)
    assert seen.queries == (source.query,)
    promql_parser.parse(source.query)
    assert source.query.endswith("[3000ms]")
    assert f',instance="127.0.0.1:{scraped.bed.envoy.admin_port}"}}' in source.query
    await source.close()


async def test_ticks_do_not_overlap(scraped: Scraped) -> None:
    source = scraped.source()
    first = await until(source, lambda o: o.complete)
    second = await until(source, lambda o: o.complete)
    assert second.time - second.window == pytest.approx(first.time)
    at_once = await source.observe(time.time())
    assert at_once.complete or "no new scrape" in at_once.missing["a"]
    await source.close()


async def test_a_window_that_is_too_short_is_widened(scraped: Scraped) -> None:
    source = scraped.source(window=0.6)
    first = await source.observe(time.time())
    assert "are needed" in first.missing["a"]
    await until(source, lambda o: o.complete)
    await source.close()


async def test_a_restart_of_envoy_is_missing_and_makes_no_spike(scraped: Scraped) -> None:
    bed = scraped.bed
    source = scraped.source()
    await bed.burst("/b", 50)
    await until(source, lambda o: o.complete and o.clusters["b.svc"].load > 0)
    await until(source, lambda o: o.complete and o.clusters["b.svc"].load == 0)
    bed.envoy.kill()
    bed.envoy.start()
    await bed.envoy.ready()
    await bed.burst("/b", 200)
    troubles: list[str] = []
    total = 0.0
    for _ in range(7):
        seen = await source.observe(time.time())
        if seen.missing:
            assert not seen.clusters
            troubles.append(seen.missing["b.svc"])
        else:
            total += seen.clusters["b.svc"].load * seen.window
        await asyncio.sleep(INTERVAL)
    await source.close()
    assert any("restarted" in t for t in troubles), troubles
    assert total <= 201


@pytest.mark.parametrize("window", [2.0, 20.0], ids=["left the window", "still in it"])
async def test_old_samples_are_no_data(scraped: Scraped, window: float) -> None:
    source = scraped.source(max_age=1.5, window=window)
    await until(source, lambda o: o.complete)
    os.kill(scraped.bed.envoy.pid, signal.SIGSTOP)
    try:
        seen = await until(source, lambda o: "newest sample is" in o.missing.get("a", ""), 6.0)
        assert not seen.clusters
        assert set(seen.missing) == {"a", "b.svc", "mixed", "only-b"}
    finally:
        os.kill(scraped.bed.envoy.pid, signal.SIGCONT)
    await until(source, lambda o: o.complete)
    await source.close()


async def test_a_slow_prometheus_is_missing_in_time(scraped: Scraped) -> None:
    source = scraped.source(timeout=0.3)
    os.kill(scraped.server.pid, signal.SIGSTOP)
    try:
        seen = await source.observe(time.time())
    finally:
        os.kill(scraped.server.pid, signal.SIGCONT)
    assert seen.missing["a"] == "Prometheus: no answer within 0.3 s"
    await source.close()


async def test_other_labels_mean_no_samples(scraped: Scraped) -> None:
    source = scraped.source(selector='job="other"')
    seen = await source.observe(time.time())
    assert seen.missing["mixed"] == "Prometheus: no samples in the last 3 s"
    await source.close()


async def test_a_query_that_is_refused_says_why(scraped: Scraped) -> None:
    source = scraped.source(selector="job=envoy")
    seen = await source.observe(time.time())
    assert "bad_data" in seen.missing["a"]
    await source.close()


async def test_what_is_not_prometheus_is_said_to_be_so(scraped: Scraped) -> None:
    source = PrometheusSource([scraped.bed.admin], TOPOLOGY, ROUTES, timeout=3.0)
    seen = await source.observe(time.time())
    assert "not JSON" in seen.missing["a"]
    await source.close()


async def test_a_stopped_prometheus_is_missing_with_the_reason() -> None:
    source = PrometheusSource([f"http://127.0.0.1:{free_port()}"], TOPOLOGY, ROUTES)
    seen = await source.observe(5.0)
    assert not seen.clusters
    assert not seen.demands
    assert "Prometheus: cannot be read" in seen.missing["a"]
    assert seen.queries == (source.query,)
    await source.close()


async def test_not_a_number_in_the_store_is_missing(scraped: Scraped) -> None:
    source = scraped.source(selector=f'instance="{scraped.page}"')
    seen = await until(source, lambda o: bool(o.clusters))
    assert set(seen.clusters) == {"b.svc"}
    assert "upstream_rq_total is nan" in seen.missing["a"]
    assert seen.missing["mixed"] == "no statistics of this route"
    await source.close()


async def test_one_silent_proxy_among_several_is_no_data_until_it_is_given_up(
    scraped: Scraped,
) -> None:
    """Both targets: the Envoy stops answering, the page goes on."""
    source = scraped.source(selector="", max_age=1.5, window=2.0)
    await until(source, lambda o: "b.svc" in o.clusters)
    os.kill(scraped.bed.envoy.pid, signal.SIGSTOP)
    try:
        envoy = f"127.0.0.1:{scraped.bed.envoy.admin_port}"
        await until(source, lambda o: not o.clusters and envoy in o.missing["b.svc"])
        await until(source, lambda o: "b.svc" in o.clusters)
    finally:
        os.kill(scraped.bed.envoy.pid, signal.SIGCONT)
    await source.close()
