"""What a push costs a real Envoy under load: nothing. By Envoy's own counters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.processes import EnvoyProcess
from eigenmesh.mesh import BreakerLimits, Plan
from eigenmesh.xds.bootstrap import bootstrap
from eigenmesh.xds.operator import OperatorConfig, parse_operator
from eigenmesh.xds.resource import ROUTE, RUNTIME, Resource
from eigenmesh.xds.server import XdsEvent, XdsServer
from eigenmesh.xds.translate import Translator

from .conftest import upstream

PUSHES = 300
LOAD = {"shop": 100.0, "search": 100.0}
DESTROYED = r"^cluster\.[abc]\.upstream_cx_destroy"
REPLACED = (
    r"^cluster_manager\.cluster_(added|modified|removed)|^listener_manager\.listener_modified"
)
REFUSED = r"update_rejected$"


@dataclass
class Bench:
    ports: stage.Ports
    config: OperatorConfig
    server: XdsServer
    envoy: EnvoyProcess
    load: LoadGenerator
    events: list[XdsEvent]

    def counters(self, pattern: str) -> dict[str, int]:
        return self.envoy.stats(pattern)


@pytest.fixture(params=["delta", "sotw"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """An Envoy of one xDS variant on a server in this process, three upstreams, no load yet."""
    ports = stage.Ports()
    config = parse_operator(
        {"static_resources": stage.envoy_resources(ports)}, steer=list(stage.ROUTES)
    )
    events: list[XdsEvent] = []
    server = XdsServer(f"127.0.0.1:{ports.xds}", on_event=events.append)
    server.publish(Translator(config).snapshot(config.original_plan()))
    await server.start()
    async with AsyncExitStack() as cleanup:
        cleanup.push_async_callback(server.stop)
        for one in stage.UPSTREAMS:
            await cleanup.enter_async_context(upstream(one, ports))
        document = bootstrap(
            node_id="envoy-1",
            node_cluster="edge",
            xds_address=f"127.0.0.1:{ports.xds}",
            admin_address=f"127.0.0.1:{ports.admin}",
            runtime_layer="eigenmesh",
            delta=request.param == "delta",
        )
        envoy = EnvoyProcess(document, ports.admin, log=tmp_path / "envoy.log")
        await cleanup.enter_async_context(envoy)
        load = LoadGenerator(ports.envoy)
        await cleanup.enter_async_context(load)
        yield Bench(ports, config, server, envoy, load, events)


async def test_300_weight_and_300_breaker_pushes_cost_no_request_and_no_connection(
    bench: Bench,
) -> None:
    translator = Translator(bench.config)
    plan = bench.config.original_plan()
    snapshot = translator.snapshot(plan)
    await bench.load.begin("warm", LOAD, seed=1)
    await asyncio.sleep(2.0)
    before = bench.counters(f"{DESTROYED}|{REPLACED}|{REFUSED}")
    await bench.load.begin("pushes", LOAD, seed=2)
    for number in range(PUSHES):
        share = 0.2 + 0.5 * (number % 11) / 10
        split = {"a": share, "b": (1 - share) * 0.6, "c": (1 - share) * 0.4}
        limits = {c: BreakerLimits.around(100 + (7 * number) % 300) for c in "abc"}
        plan = Plan(dict.fromkeys(stage.ROUTES, split), limits)
        snapshot = translator.snapshot(plan, snapshot)
        bench.server.publish(snapshot)
        # Acknowledged one by one: none is skipped as out of date.
        for kind in (ROUTE, RUNTIME):
            assert await bench.server.wait_acked(kind, snapshot.of(kind).version, 5.0)
        await asyncio.sleep(0.01)
    await bench.load.begin("quiet", {}, seed=1)
    await asyncio.sleep(1.0)
    await bench.load.close()
    after = bench.counters(f"{DESTROYED}|{REPLACED}|{REFUSED}")

    statuses = bench.load.table("pushes").status.tolist()
    assert len(statuses) > 500
    assert set(statuses) == {200}, "a push failed a request"
    assert after == before, "a push destroyed a connection, or replaced or refused something"
    success = bench.counters(r"rds\.edge\.update_success$|^runtime\.load_success$")
    assert all(count >= PUSHES for count in success.values()), success
    sent = [e.type_url for e in bench.events if e.kind == "sent"]
    assert sent.count(ROUTE) >= PUSHES
    assert sent.count(RUNTIME) >= PUSHES


async def test_a_nack_is_parked_shown_and_healed_by_new_content(bench: Bench) -> None:
    translator = Translator(bench.config)
    good = bench.server.snapshot
    assert good is not None
    # Weights that Envoy refuses: the translator would not make them, so by hand.
    table = bench.config.tables["edge"]
    broken = type(table.message)()
    broken.CopyFrom(table.message)
    broken.virtual_hosts[0].domains[:] = ["a.b:notaport:*:*", "a.b:notaport:*:*"]
    bad = good.replace([Resource.of(broken, "edge")])
    bench.server.publish(bad)
    assert not await bench.server.wait_acked(ROUTE, bad.of(ROUTE).version, 5.0)
    sent = sum(e.kind == "sent" for e in bench.events)
    await asyncio.sleep(1.0)
    assert sum(e.kind == "sent" for e in bench.events) == sent, "a NACK was answered by resending"
    [status] = [t for n in bench.server.nodes() for t in n.types if t.type_url == ROUTE]
    assert status.nacks == 1
    assert "domain" in status.nack.lower()
    await bench.load.begin("on", LOAD, seed=1)
    await asyncio.sleep(0.5)

    plan = Plan({r: {"a": 0.5, "b": 0.3, "c": 0.2} for r in stage.ROUTES}, {})
    healed = translator.snapshot(plan, good)
    bench.server.publish(healed)
    assert await bench.server.wait_acked(ROUTE, healed.of(ROUTE).version, 5.0)
    [status] = [t for n in bench.server.nodes() for t in n.types if t.type_url == ROUTE]
    assert status.nack == ""
    await bench.load.begin("quiet", {}, seed=1)
    await asyncio.sleep(0.7)
    await bench.load.close()
    assert set(bench.load.table("on").status.tolist()) == {200}
