"""The composed stack, as far as it can be checked without a container engine.

Every mounted file exists and is valid for the program that reads it; every command of ours starts
with the flags given; services, ports and volumes refer to what is there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from eigenmesh.control.metrics import Metrics
from eigenmesh.control.settings import load_settings
from eigenmesh.demo.processes import ChildProcess, free_port, http_get

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (source, inside)
        for source, inside, *_ in (m.split(":") for m in service.get("volumes", []))
    ]


def test_every_mount_is_a_file_or_a_declared_volume() -> None:
    for name, service in SERVICES.items():
        for source, _ in mounts(service):
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name} mounts {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name} mounts volume {source}"


def test_every_port_is_published_on_loopback_only() -> None:
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_every_service_that_is_named_exists() -> None:
    for service in SERVICES.values():
        wanted = service.get("depends_on", [])
        assert set(wanted) <= set(SERVICES)
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    for job in scraped["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            assert target.split(":")[0] in SERVICES
    settings = load_settings(ROOT / "deploy/eigenmesh.yaml")
    for cluster in settings.operator.clusters.values():
        for endpoint in cluster.load_assignment.endpoints[0].lb_endpoints:
            socket = endpoint.endpoint.address.socket_address
            assert socket.address in SERVICES
            assert str(socket.port_value) in SERVICES[socket.address]["entrypoint"]
    telemetry = settings.model.telemetry.prometheus
    assert telemetry is not None
    for url in telemetry.url:
        assert url.split("//")[1].split(":")[0] in SERVICES


def test_prometheus_accepts_its_configuration() -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool comes with Prometheus; `make test` installs it"
    done = subprocess.run(
        [promtool, "check", "config", str(ROOT / "deploy/prometheus/prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_upstream_command_serves_with_its_flags() -> None:
    service = SERVICES["upstream-c"]
    port = free_port()
    command = [*service["entrypoint"], *service["command"]]
    assert command[0] == "python"
    here = [sys.executable, *command[1:]]
    here[here.index("--port") + 1] = str(port)
    here[here.index("--host") + 1] = "127.0.0.1"
    with ChildProcess("upstream", here, ready_port=port):
        assert http_get(port, "/")[0] == 200


def test_the_load_command_sends_what_it_is_told_to() -> None:
    service = SERVICES["load"]
    port = free_port()
    upstream = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
    command = [*service["entrypoint"], *service["command"]]
    here = [sys.executable, *command[1:]]
    here[here.index("--port") + 1] = str(port)
    here[here.index("--host") + 1] = "127.0.0.1"
    upstream += ["--slots", "64", "--service-time", "0.001"]
    with ChildProcess("upstream", upstream, ready_port=port):
        done = subprocess.run(["timeout", "2", *here], capture_output=True, text=True, check=False)
    rows = [r for line in done.stdout.splitlines() for r in json.loads(line).get("rows", [])]
    assert {row[1] for row in rows} == {"shop", "search"}, done.stderr
    assert {row[4] for row in rows} == {200}


def test_the_health_check_asks_where_eigenmesh_answers() -> None:
    settings = load_settings(ROOT / "deploy/eigenmesh.yaml")
    port = settings.model.http.listen.rpartition(":")[2]
    check = " ".join(SERVICES["eigenmesh"]["healthcheck"]["test"])
    assert f"127.0.0.1:{port}/readyz" in check


def test_the_image_copies_what_exists_and_runs_a_real_command() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    command = json.loads(re.findall(r"^CMD (.+)$", text, re.M)[-1])
    assert command[:2] == ["run", "-c"]
    assert command[2] in {inside for _, inside in mounts(SERVICES["eigenmesh"])}


@pytest.mark.parametrize("panel", range(8))
def test_dashboards_ask_for_metrics_that_exist(panel: int) -> None:
    board = json.loads((ROOT / "deploy/grafana/dashboards/mesh.json").read_text())
    known = {m.name for m in Metrics().registry.collect()}
    for target in board["panels"][panel]["targets"]:
        for name in re.findall(r"eigenmesh_\w+", target["expr"]):
            assert name in known or name.removesuffix("_total") in known
