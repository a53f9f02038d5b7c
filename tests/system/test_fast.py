"""Between two decisions a limit falls on a real Envoy, and comes back."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack
from pathlib import Path

from prometheus_client import generate_latest

from eigenmesh.control.settings import parse_document
from eigenmesh.control.sidecar import Sidecar
from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.processes import EnvoyProcess, http_get
from eigenmesh.mesh import BreakerLimits, Plan
from eigenmesh.xds.bootstrap import bootstrap

from .conftest import upstream

LIMIT = 40


async def test_a_cluster_that_gets_a_third_done_is_spared_at_once(tmp_path: Path) -> None:
    ports = stage.Ports()
    document = stage.settings(ports, tmp_path / "journal.sqlite")
    # Decisions come, so that there are curves, and push nothing.
    document |= {"mode": "auto", "interval": "3s", "solver": "classical"}
    document["guard"] = {"min_gain": 1.0, "fast": {"interval": "0.5s"}}
    sidecar = Sidecar(parse_document(document))
    start = bootstrap(
        node_id="envoy-1",
        node_cluster="edge",
        xds_address=f"127.0.0.1:{ports.xds}",
        admin_address=f"127.0.0.1:{ports.admin}",
        runtime_layer="eigenmesh",
    )
    envoy = EnvoyProcess(start, ports.admin, log=tmp_path / "envoy.log")
    load = LoadGenerator(ports.envoy)

    def limit() -> int:
        """In force on the first cluster, as Envoy says."""
        text = envoy.admin("/clusters")
        [found] = re.findall(r"^a::default_priority::max_requests::(\d+)$", text, re.M)
        return int(found)

    async def until(low: int, high: int, seconds: float) -> None:
        found = 0
        try:
            async with asyncio.timeout(seconds):
                while not low <= (found := await asyncio.to_thread(limit)) <= high:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{found}, not {low} to {high}") from None

    async with AsyncExitStack() as cleanup:
        for one in stage.UPSTREAMS:
            await cleanup.enter_async_context(upstream(one, ports))
        await sidecar.start()
        cleanup.push_async_callback(sidecar.stop)
        await cleanup.enter_async_context(envoy)
        await cleanup.enter_async_context(load)
        split = {"a": 0.8, "b": 0.1, "c": 0.1}
        plan = Plan(
            dict.fromkeys(sidecar.loop.plan.weights, split),
            dict.fromkeys("abc", BreakerLimits.around(LIMIT)),
        )
        await sidecar.loop.put_in_force(plan)
        await load.begin("before", {"shop": 250.0}, seed=1)
        async with asyncio.timeout(20.0):
            while "a" not in sidecar.loop.curves:
                await asyncio.sleep(0.1)
        await until(LIMIT, LIMIT, 5.0)

        control = ports.upstreams["a"]
        http_get(control, "/_control?slots=3&service_time=0.024")
        await until(8, 25, 8.0)
        assert sidecar.loop.plan == plan, "the plan itself is not touched"
        metrics = generate_latest(sidecar.metrics.registry).decode()
        assert 'eigenmesh_fast_guard_max_requests{cluster="a"}' in metrics

        http_get(control, "/_control?slots=8&service_time=0.02")
        await until(LIMIT, LIMIT, 12.0)
        metrics = generate_latest(sidecar.metrics.registry).decode()
        assert 'eigenmesh_fast_guard_max_requests{cluster="a"}' not in metrics
