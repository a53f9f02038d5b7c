"""The direct scrape, on a real Envoy."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from eigenmesh.demo.processes import free_port
from eigenmesh.mesh import Cluster, Observation, ProxyLoad, Route, Topology
from eigenmesh.telemetry import histogram
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource
from eigenmesh.telemetry.source import Source
from tests.envoys import EMBEDDED, OLDER

from .bed import BUCKETS, HOST, ROUTES, TOPOLOGY, Bed, run


def source_of(bed: Bed, **more: Any) -> EnvoyAdminSource:
    return EnvoyAdminSource([bed.admin], TOPOLOGY, ROUTES, timeout=3.0, **more)


def counts(observation: Observation) -> dict[str, float]:
    """Requests per route over the window."""
    return {r: round(d * observation.window, 6) for r, d in observation.demands.items()}


def all_routes() -> tuple[Topology, Mapping[str, tuple[str, str]]]:
    """Every route of the bed's Envoy, and the cluster that nobody listens for."""
    prefixes = [route["stat_prefix"] for route in HOST["routes"]]
    names = ("a", "b.svc", "dead")
    topology = Topology(tuple(Cluster(n) for n in names), tuple(Route(p, names) for p in prefixes))
    return topology, {p: ("shop", p) for p in prefixes}


async def test_the_first_scrape_only_starts_the_count() -> None:
    async with run() as bed:
        await bed.burst("/mixed", 20)
        source: Source = source_of(bed)
        first = await source.observe(100.0)
        assert first.missing == dict.fromkeys(
            ("a", "b.svc", "mixed", "only-b"), f"{bed.admin}: first scrape"
        )
        assert not first.clusters
        assert not first.demands
        second = await source.observe(102.0)
        assert second.complete
        assert second.total_demand == 0.0
        assert second.clusters["a"].mean is None
        assert second.clusters["a"].quantiles == {}
        assert second.time == 102.0
        await source.close()


async def test_what_clients_saw_is_what_is_observed() -> None:
    async with run(concurrency=2) as bed:
        source = source_of(bed)
        await source.observe(0.0)
        async with bed.traffic({"/mixed": 120, "/b": 60}):
            await asyncio.sleep(2.5)
        seen = await source.observe(1.0)
        await source.close()
        sent = {path: len(taken) for path, taken in bed.latencies.items()}
        assert counts(seen) == {"mixed": sent["/mixed"], "only-b": sent["/b"]}
        a, b = seen.clusters["a"], seen.clusters["b.svc"]
        assert round((a.load + b.load) * seen.window) == sum(sent.values())
        assert (a.load, b.load) == (a.throughput, b.throughput)
        assert (a.in_flight, a.upstream_errors, a.breaker_errors) == (0, 0, 0)
        assert a.mean is not None
        assert b.mean is not None
        # Clients count the way to Envoy as well.
        everything = [s for taken in bed.latencies.values() for s in taken]
        mean = (a.mean * a.load + b.mean * b.load) / (a.load + b.load)
        assert 0.6 * sum(everything) / len(everything) < mean < sum(everything) / len(everything)
        assert a.quantiles[0.5] < a.mean < a.quantiles[0.99]


@pytest.mark.parametrize("envoy", [*OLDER, EMBEDDED])
@pytest.mark.parametrize(
    "limits",
    [{"max_requests": 8}, {"max_connections": 8, "max_pending_requests": 8}],
    ids=["requests", "pending"],
)
async def test_breaker_made_503s_are_breaker_errors_only(
    limits: dict[str, int], envoy: str
) -> None:
    """Whichever counter this version of Envoy has for them."""
    async with run(slots=2, limits=limits, version=envoy) as bed:
        source = source_of(bed)
        await source.observe(0.0)
        statuses = await bed.burst("/mixed", 120)
        seen = await source.observe(1.0)
        await source.close()
        rejected = statuses.count(503)
        assert rejected > 10
        a = seen.clusters["a"]
        assert round(a.breaker_errors * seen.window) == rejected
        assert a.upstream_errors == pytest.approx(0.0)
        assert a.success_rate == 1.0
        assert round(a.throughput * seen.window) == round(a.load * seen.window)
        assert seen.clusters["b.svc"].breaker_errors == 0
        # They entered the route all the same.
        assert counts(seen) == {"mixed": 120.0, "only-b": 0.0}


async def test_the_upstreams_own_503s_are_upstream_errors_only() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while await reader.readline() not in (b"\r\n", b""):
                pass
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    topology, routes = all_routes()
    async with run() as bed:
        server = await asyncio.start_server(refuse, "127.0.0.1", bed.upstreams["dead"])
        source = EnvoyAdminSource([bed.admin], topology, routes, timeout=3.0)
        await source.observe(0.0)
        assert await bed.burst("/dead", 30) == [503] * 30
        seen = await source.observe(1.0)
        await source.close()
        server.close()
        dead = seen.clusters["dead"]
        assert round(dead.upstream_errors * seen.window) == 30
        assert dead.breaker_errors == 0
        assert dead.success_rate == 0.0
        assert counts(seen)["dead"] == 30


async def test_errors_by_cause_and_demand_without_retries() -> None:
    topology, routes = all_routes()
    async with run(service_time=0.04) as bed:
        source = EnvoyAdminSource([bed.admin], topology, routes, timeout=3.0)
        await source.observe(0.0)
        await bed.burst("/dead", 7)
        hurried = await bed.burst("/hurried", 20)
        await bed.control("a", "error_rate=1")
        await bed.burst("/retried", 5)
        seen = await source.observe(1.0)
        await source.close()
        assert hurried.count(504) > 0
        expected = {"dead": 7.0, "hurried": 20.0, "retried": 5.0}
        assert counts(seen) == {**dict.fromkeys(routes, 0.0), **expected}
        a, dead = seen.clusters["a"], seen.clusters["dead"]
        retries = round(a.retries * seen.window)
        assert retries > 0
        assert round(a.load * seen.window) == 20 + 5 + retries
        assert round(a.upstream_errors * seen.window) == hurried.count(504) + 5 + retries
        assert a.breaker_errors == 0
        assert dead.load == 0
        assert dead.mean is None
        assert dead.success_rate == 0.0


async def test_each_cause_of_an_error_is_counted_apart() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    topology, routes = all_routes()
    async with run(slots=2, service_time=0.1) as bed:
        source = EnvoyAdminSource([bed.admin], topology, routes, timeout=3.0)
        await source.observe(0.0)
        unreached = await bed.burst("/dead", 4)
        server = await asyncio.start_server(hang_up, "127.0.0.1", bed.upstreams["dead"])
        cut_off = await bed.burst("/dead", 3)
        server.close()
        hurried = await bed.burst("/hurried", 6)
        await bed.control("a", "error_rate=1")
        await bed.burst("/retried", 2)
        seen = await source.observe(1.0)
        await source.close()
    assert set(unreached + cut_off) == {503}

    def errors(cluster: str) -> dict[str, int]:
        counted = {c: round(r * seen.window) for c, r in seen.clusters[cluster].errors.items()}
        return {cause: n for cause, n in counted.items() if n}

    assert errors("dead") == {"connect": 4, "reset": 3}
    retries = round(seen.clusters["a"].retries * seen.window)
    assert errors("a") == {"timeout": hurried.count(504), "5xx": 2 + retries}


async def test_connections_pending_requests_and_the_width_of_buckets_are_seen() -> None:
    limits = {"max_connections": 3, "max_requests": 100}
    async with run(slots=3, service_time=0.06, limits=limits) as bed:
        source = source_of(bed)
        await source.observe(0.0)
        pending = asyncio.create_task(bed.burst("/mixed", 60))
        await asyncio.sleep(0.3)
        seen = await source.observe(1.0)
        await source.close()
        await pending
    a = seen.clusters["a"]
    assert a.connections == 3
    assert 0 < a.pending == a.in_flight - 3
    assert a.resolutions.keys() == a.quantiles.keys() == {0.5, 0.9, 0.99}
    edges = [histogram.edge(bound) / 1e3 for bound in (0, *BUCKETS)]
    widths = [high - low for low, high in pairwise([0.0, *edges])]
    assert all(any(w == pytest.approx(known) for known in widths) for w in a.resolutions.values())
    proxies = seen.proxies[bed.admin]
    assert proxies["a"] == ProxyLoad(a.load, a.in_flight)


async def test_a_growing_queue_is_load_and_in_flight() -> None:
    async with run(slots=1, service_time=0.05) as bed:
        source = source_of(bed)
        await source.observe(0.0)
        pending = asyncio.create_task(bed.burst("/b", 60))
        await asyncio.sleep(1.0)
        seen = await source.observe(1.0)
        b = seen.clusters["b.svc"]
        assert round(b.load * seen.window) == 60
        assert counts(seen)["only-b"] == 60
        assert b.in_flight + round(b.throughput * seen.window) == 60
        assert b.in_flight > 10
        await source.close()
        await bed.control("b.svc", "reset=1")
        await pending


async def test_a_restarted_envoy_is_missing_and_makes_no_spike() -> None:
    async with run() as bed:
        source = source_of(bed)
        await source.observe(0.0)
        await bed.burst("/mixed", 200)
        await source.observe(1.0)
        bed.envoy.kill()
        gone = await source.observe(3.0)
        assert "cannot be read" in gone.missing["a"]
        bed.envoy.start()
        await bed.envoy.ready()
        await bed.burst("/mixed", 100)
        back = await source.observe(4.0)
        assert not back.clusters
        assert not back.demands
        assert "Envoy was restarted" in back.missing["mixed"]
        await bed.burst("/mixed", 10)
        after = await source.observe(5.0)
        await source.close()
        assert after.complete
        assert counts(after)["mixed"] == 10


async def test_an_envoy_that_does_not_answer_is_missing_in_time() -> None:
    async with run() as bed:
        source = EnvoyAdminSource([bed.admin], TOPOLOGY, ROUTES, timeout=0.3)
        await source.observe(0.0)
        os.kill(bed.envoy.pid, signal.SIGSTOP)
        try:
            seen = await source.observe(1.0)
        finally:
            os.kill(bed.envoy.pid, signal.SIGCONT)
        assert seen.missing["a"] == f"{bed.admin}: no answer within 0.3 s"
        await source.close()


async def test_several_envoys_are_added_up_and_one_missing_is_no_data() -> None:
    async with run() as bed:
        # The same Envoy by two names: twice its traffic.
        twin = bed.admin.replace("127.0.0.1", "localhost")
        source = EnvoyAdminSource([bed.admin, twin], TOPOLOGY, ROUTES, timeout=3.0)
        await source.observe(0.0)
        await bed.burst("/b", 25)
        seen = await source.observe(1.0)
        assert counts(seen)["only-b"] == pytest.approx(50, rel=0.2)
        loads = [seen.proxies[proxy]["b.svc"].load for proxy in (bed.admin, twin)]
        assert all(loads)
        assert sum(loads) == pytest.approx(seen.clusters["b.svc"].load)
        await source.close()
        nobody = f"http://127.0.0.1:{free_port()}"
        partial = EnvoyAdminSource([bed.admin, nobody], TOPOLOGY, ROUTES, timeout=3.0)
        await partial.observe(0.0)
        seen = await partial.observe(1.0)
        await partial.close()
        assert not seen.clusters
        assert seen.missing["a"].startswith(f"{nobody}: cannot be read")


async def test_an_envoy_that_stays_silent_is_left_out() -> None:
    async with run() as bed:
        gone = f"http://127.0.0.1:{free_port()}"
        source = EnvoyAdminSource([bed.admin, gone], TOPOLOGY, ROUTES, max_age=15.0)
        await source.observe(100.0)
        early = await source.observe(110.0)
        assert not early.complete
        assert early.proxies.keys() == {bed.admin}, "what is known of the others is not lost"
        # Nor does a clock that was set back keep it.
        assert not (await source.observe(50.0)).complete
        late = await source.observe(66.0)
        await source.close()
        assert late.complete
        assert late.left_out.keys() == {gone}
        assert late.nodes == {}, "this Envoy has no id"


async def test_what_is_not_envoy_is_said_to_be_so() -> None:
    async with run() as bed:
        upstream = f"http://127.0.0.1:{bed.upstreams['a']}"
        source = EnvoyAdminSource([upstream], TOPOLOGY, ROUTES, timeout=3.0)
        seen = await source.observe(0.0)
        await source.close()
        assert "not a sample of the Prometheus text format" in seen.missing["a"]
