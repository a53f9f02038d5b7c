"""The same query on VictoriaMetrics, which scrapes a real Envoy."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import yaml

from eigenmesh.demo.processes import ChildProcess, free_port
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource
from eigenmesh.telemetry.prometheus import PrometheusSource

from .bed import ROUTES, TOPOLOGY, Bed, run
from .scraped import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

INTERVAL = 0.3


class VictoriaMetricsProcess(ChildProcess):
    """A single node that scrapes `target` ("127.0.0.1:PORT")."""

    def __init__(self, target: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._target, self._port = target, port
        super().__init__("victoria-metrics", [], ready_port=port, ready_path="/health")

    def start(self) -> None:
        binary = shutil.which("victoria-metrics")
        assert binary, "no victoria-metrics on PATH; `make test` installs it"
        scrape = {
            "job_name": "envoy",
            "metrics_path": "/stats/prometheus",
            "scrape_interval": f"{INTERVAL}s",
            "scrape_timeout": f"{INTERVAL}s",
            "static_configs": [{"targets": [self._target]}],
        }
        file = self.scratch / "scrape.yaml"
        file.write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
        self.argv = [
            *(binary, f"-promscrape.config={file}", f"-storageDataPath={self.scratch / 'data'}"),
            *(f"-httpListenAddr=127.0.0.1:{self._port}", "-loggerLevel=WARN"),
        ]
        super().start()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stored() -> AsyncIterator[tuple[Bed, PrometheusSource]]:
    """New series take it ten seconds to show."""
    async with run() as bed:
        target = f"127.0.0.1:{bed.envoy.admin_port}"
        async with VictoriaMetricsProcess(target, free_port()) as store:
            source = PrometheusSource([store.url], TOPOLOGY, ROUTES, window=4.0, timeout=3.0)
            await until(source, lambda o: o.complete, 30.0)
            yield bed, source
            await source.close()


async def test_it_agrees_with_the_direct_scrape(stored: tuple[Bed, PrometheusSource]) -> None:
    bed, source = stored
    direct = EnvoyAdminSource([bed.admin], TOPOLOGY, ROUTES, timeout=3.0)
    async with bed.traffic({"/mixed": 160, "/b": 60}):
        # All series (of answers by code, say) have been seen before anything is compared.
        await until(source, lambda o: o.complete and o.clusters["b.svc"].mean is not None, 30.0)
        await asyncio.sleep(1.5)
        await until(source, lambda o: o.complete)
        await direct.observe(0.0)
        await asyncio.sleep(3.0)
        one = await direct.observe(time.time())
        await asyncio.sleep(1.5)
        other = await until(source, lambda o: o.complete)
    await direct.close()
    for name in TOPOLOGY.cluster_names:
        a, b = one.clusters[name], other.clusters[name]
        assert b.load == pytest.approx(a.load, rel=0.15)
        assert b.throughput == pytest.approx(a.throughput, rel=0.15)
        assert b.mean == pytest.approx(a.mean or 0.0, rel=0.15)
        assert b.resolutions.keys() == a.resolutions.keys()
    for route, demand in one.demands.items():
        assert other.demands[route] == pytest.approx(demand, rel=0.15)


async def test_a_restart_of_envoy_is_missing_and_makes_no_spike(
    stored: tuple[Bed, PrometheusSource],
) -> None:
    bed, source = stored
    await bed.burst("/b", 50)
    await until(source, lambda o: o.complete and o.clusters["b.svc"].load > 0)
    await until(source, lambda o: o.complete and o.clusters["b.svc"].load == 0)
    bed.envoy.kill()
    await until(source, lambda o: not o.clusters)
    bed.envoy.start()
    await bed.envoy.ready()
    await bed.burst("/b", 200)
    await until(source, lambda o: "Envoy was restarted" in o.missing.get("a", ""))
    back = await until(source, lambda o: o.complete)
    assert back.clusters["b.svc"].load * back.window <= 201
