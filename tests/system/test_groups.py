"""Envoys of two groups and a stranger, on one Eigenmesh."""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from eigenmesh.control.settings import parse_document
from eigenmesh.control.sidecar import Sidecar
from eigenmesh.demo import stage
from eigenmesh.demo.processes import EnvoyProcess, free_port
from eigenmesh.mesh import Plan
from eigenmesh.xds.bootstrap import bootstrap

INNER = {"cluster": "inner"}


def renamed(resources: dict[str, Any], port: int) -> dict[str, Any]:
    """The stage's resources on another port, with a table of another name."""
    own = copy.deepcopy(resources)
    [listener] = own["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["name"] = "inner"
    return own


async def test_each_group_gets_its_own_and_a_stranger_is_refused(tmp_path: Path) -> None:
    ports = stage.Ports()
    document = stage.settings(ports, tmp_path / "journal.sqlite")
    static = document["envoy"]["static_resources"]
    inner = {"static_resources": renamed(static, free_port())}
    document["groups"] = [
        {"name": "edge", "match": {"cluster": "edge"}},
        {"name": "inner", "match": INNER, "envoy": inner, "steer": list(stage.ROUTES)},
    ]
    document["unknown_nodes"] = "refuse"
    sidecar = Sidecar(parse_document(document))
    await sidecar.start()
    async with AsyncExitStack() as cleanup:
        cleanup.push_async_callback(sidecar.stop)

        def envoy(cluster: str) -> EnvoyProcess:
            admin = free_port()
            start = bootstrap(
                node_id=f"{cluster}-1",
                node_cluster=cluster,
                xds_address=f"127.0.0.1:{ports.xds}",
                admin_address=f"127.0.0.1:{admin}",
                runtime_layer="eigenmesh",
            )
            return EnvoyProcess(start, admin, log=tmp_path / f"{cluster}.log")

        envoys = {name: envoy(name) for name in ("edge", "inner")}
        for process in envoys.values():
            await cleanup.enter_async_context(process)
        splits = {
            "shop": {"a": 0.5, "b": 0.3, "c": 0.2},
            "inner:shop": {"a": 0.1, "b": 0.1, "c": 0.8},
        }
        plan = Plan({**sidecar.loop.plan.weights, **splits}, {})
        await sidecar.loop.put_in_force(plan)
        async with asyncio.timeout(10):
            while sidecar.loop.confirmed != plan:
                await asyncio.sleep(0.02)
        assert weights(envoys["edge"], "edge") == {"a": 5000, "b": 3000, "c": 2000}
        assert weights(envoys["inner"], "inner") == {"a": 1000, "b": 1000, "c": 8000}
        assert {(n.node_id, n.group) for n in sidecar.xds.nodes()} == {
            ("edge-1", "edge"),
            ("inner-1", "inner"),
        }

        stranger = envoy("elsewhere")
        cleanup.callback(stranger.stop)
        stranger.start()
        async with asyncio.timeout(10):
            while 'kind="refused"' not in generate_latest(sidecar.metrics.registry).decode():
                await asyncio.sleep(0.05)
        assert len(sidecar.xds.nodes()) == 2


def weights(envoy: EnvoyProcess, table: str) -> dict[str, int]:
    """Of the route `shop`, as Envoy says they are in force."""
    dump = json.loads(envoy.admin("/config_dump?resource=dynamic_route_configs"))
    [config] = [c["route_config"] for c in dump["configs"]]
    assert config["name"] == table
    [host] = [h for h in config["virtual_hosts"] if h["name"] == stage.STEERED]
    [route] = [r for r in host["routes"] if r["name"] == "shop"]
    return {c["name"]: c["weight"] for c in route["route"]["weighted_clusters"]["clusters"]}
