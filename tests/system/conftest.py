"""The whole stack on this machine: upstreams, Envoy, Eigenmesh as its users start it, load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from eigenmesh.api.client import MeshClient
from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.oracle import Upstream
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, PrometheusProcess, http_get


@dataclass
class Stack:
    """Everything runs but Eigenmesh, which the test starts (and kills) itself."""

    folder: Path
    ports: stage.Ports
    settings: dict[str, Any]
    envoy: EnvoyProcess
    load: LoadGenerator
    prometheus: PrometheusProcess | None = None
    _sidecars: list[ChildProcess] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "eigenmesh.yaml"

    def start_eigenmesh(self) -> ChildProcess:
        number = len(self._sidecars)
        process = ChildProcess(
            f"eigenmesh-{number}",
            [sys.executable, "-m", "eigenmesh", "run", "-c", str(self.file)],
            log=self.folder / f"eigenmesh-{number}.log",
            ready_port=self.ports.http,
            ready_path="/readyz",
        )
        process.start()
        self._sidecars.append(process)
        process.wait_ready()
        return process

    @property
    def sidecar(self) -> ChildProcess:
        """The one that was started last."""
        return self._sidecars[-1]

    def client(self) -> MeshClient:
        return MeshClient(f"127.0.0.1:{self.ports.api}")

    def metrics(self) -> str:
        return http_get(self.ports.http, "/metrics")[1]

    def stop_sidecars(self) -> None:
        for process in self._sidecars:
            process.stop()


def upstream(one: Upstream, ports: stage.Ports) -> ChildProcess:
    """Not started yet."""
    port = ports.upstreams[one.name]
    argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
    argv += ["--slots", str(one.slots), "--service-time", str(one.service_time)]
    return ChildProcess(f"upstream-{one.name}", argv, ready_port=port)


def steerable(resources: dict[str, Any]) -> dict[str, Any]:
    """The stage's `static_resources` with what overlay mode needs."""
    for listener in resources["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        for host in manager["route_config"]["virtual_hosts"]:
            for route in host["routes"]:
                if route["name"] in stage.ROUTES:
                    route["stat_prefix"] = route["name"]
                    weighted = route["route"]["weighted_clusters"]
                    weighted["runtime_key_prefix"] = f"weights.{route['name']}"
    return resources


def printed_bootstrap(settings: Path) -> str:
    """What `eigenmesh bootstrap` prints."""
    return subprocess.run(
        [sys.executable, "-m", "eigenmesh", "bootstrap", "-c", str(settings)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.fixture
async def stack(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stack]:
    """Parametrize indirectly with {"prometheus": True} for Prometheus instead of the scrape, with
    {"overlay": True} for an Envoy that has everything from its own file and Eigenmesh's layer."""
    options: dict[str, Any] = getattr(request, "param", {})
    ports = stage.Ports()
    prometheus = options.get("prometheus", False)
    settings = stage.settings(ports, tmp_path / "journal.sqlite", prometheus=prometheus)
    settings.update(options.get("settings", {}))
    if overlay := options.get("overlay", False):
        static = steerable(stage.envoy_resources(ports))
        settings |= {"overlay": True, "envoy": {"static_resources": static}}
    (tmp_path / "eigenmesh.yaml").write_text(yaml.safe_dump(settings))
    bootstrap = printed_bootstrap(tmp_path / "eigenmesh.yaml")
    async with AsyncExitStack() as cleanup:
        for one in stage.UPSTREAMS:
            await cleanup.enter_async_context(upstream(one, ports))
        server = None
        if prometheus:
            server = PrometheusProcess([f"127.0.0.1:{ports.admin}"], ports.prometheus)
            await cleanup.enter_async_context(server)
        log = tmp_path / "envoy.log"
        if overlay:
            own = {**stage.static_bootstrap(ports), "static_resources": static}
            envoy = EnvoyProcess(own, ports.admin, log=log, extra=("--config-yaml", bootstrap))
        else:
            envoy = EnvoyProcess(bootstrap, ports.admin, log=log)
        load = LoadGenerator(ports.envoy)
        running = Stack(tmp_path, ports, settings, envoy, load, server)
        cleanup.callback(running.stop_sidecars)
        running.start_eigenmesh()
        await cleanup.enter_async_context(envoy)
        await cleanup.enter_async_context(load)
        yield running
