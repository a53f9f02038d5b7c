"""The demo's Envoy configuration, in a real Envoy and through the settings."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from eigenmesh.control.settings import parse_settings
from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess

HOSTS = (stage.STEERED, stage.EQUAL, stage.ORACLE, stage.ORACLE_DEGRADED, stage.PROPORTIONAL)


async def test_every_policy_reaches_its_own_clusters() -> None:
    ports = stage.Ports()
    with ExitStack() as stack:
        for name, port in ports.upstreams.items():
            argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
            argv += ["--service-time", "0.001"]
            stack.enter_context(ChildProcess(f"upstream-{name}", argv, ready_port=port))
        envoy = stack.enter_context(EnvoyProcess(stage.static_bootstrap(ports), ports.admin))
        async with LoadGenerator(ports.envoy) as load:
            reached: dict[str, dict[str, int]] = {}
            before = envoy.stats(r"^cluster\..*upstream_rq_total$")
            for host in (*HOSTS, stage.LEAST_REQUEST):
                await load.begin(host, stage.rates(200.0), seed=1, host=host)
                await asyncio.sleep(0.5)
                await load.begin(f"after {host}", {}, seed=0)
                await asyncio.sleep(0.2)
                after = envoy.stats(r"^cluster\..*upstream_rq_total$")
                grown = {k.split(".")[1]: n - before[k] for k, n in after.items()}
                reached[host] = {c: n for c, n in grown.items() if n}
                before = after
            await load.close()
    assert {r.status for r in load.records} == {200}
    assert set(reached[stage.STEERED]) == {"a", "b", "c"}
    for host in HOSTS[1:]:
        assert set(reached[host]) == {"fixed-a", "fixed-b", "fixed-c"}
    assert set(reached[stage.LEAST_REQUEST]) == {"all"}
    oracle = reached[stage.ORACLE]
    assert oracle["fixed-a"] > oracle["fixed-b"] > oracle["fixed-c"]


@pytest.mark.parametrize("prometheus", [False, True])
def test_the_settings_steer_the_two_routes_and_nothing_else(
    tmp_path: Path, prometheus: bool
) -> None:
    document = stage.settings(stage.Ports(), tmp_path / "j.sqlite", prometheus=prometheus)
    settings = parse_settings(yaml.safe_dump(document))
    assert settings.topology.steered_clusters == ("a", "b", "c")
    assert {r.name: r.clusters for r in settings.topology.routes} == {
        "shop": ("a", "b", "c"),
        "search": ("a", "b", "c"),
    }
    plan = settings.operator.original_plan()
    for split in plan.weights.values():
        assert split == pytest.approx(dict.fromkeys("abc", 1 / 3), abs=1e-3)
