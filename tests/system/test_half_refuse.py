"""One of two real Envoys refuses what the other takes."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest

from eigenmesh.control.journal import Journal
from eigenmesh.control.settings import parse_document
from eigenmesh.control.sidecar import Sidecar, mesh_hash
from eigenmesh.demo import stage
from eigenmesh.demo.processes import EnvoyProcess, free_port
from eigenmesh.mesh import Action, Plan
from eigenmesh.xds.bootstrap import bootstrap


def with_a_regex(document: dict[str, Any]) -> dict[str, Any]:
    """One more route, with a regular expression that an Envoy may find too large."""
    other = copy.deepcopy(document)
    listener = other["envoy"]["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    regex = {"regex": "/(one|two|three)/[0-9]{1,9}/.*"}
    route = {"name": "regex", "match": {"safe_regex": regex}, "route": {"cluster": "a"}}
    manager["route_config"]["virtual_hosts"][0]["routes"].insert(0, route)
    return other


def envoy(name: str, ports: stage.Ports, folder: Path, largest: int) -> EnvoyProcess:
    """largest: program size of a regular expression from which on it refuses it (Envoy,
    type.matcher.v3.RegexMatcher, re2.max_program_size.error_level)."""
    admin = free_port()
    start: dict[str, Any] = bootstrap(
        node_id=name,
        node_cluster="edge",
        xds_address=f"127.0.0.1:{ports.xds}",
        admin_address=f"127.0.0.1:{admin}",
        runtime_layer="eigenmesh",
    )
    own = {"re2.max_program_size.error_level": largest}
    start["layered_runtime"]["layers"][0]["static_layer"] = own
    return EnvoyProcess(start, admin, log=folder / f"{name}.log")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.05)


def routes(one: EnvoyProcess) -> dict[str, Any]:
    """Of the steered virtual host, by name."""
    dump = json.loads(one.admin("/config_dump?resource=dynamic_route_configs"))
    [table] = [config["route_config"] for config in dump["configs"]]
    [host] = [host for host in table["virtual_hosts"] if host["name"] == stage.STEERED]
    return {route["name"]: route["route"] for route in host["routes"]}


def weights(one: EnvoyProcess) -> dict[str, int]:
    return {c["name"]: c["weight"] for c in routes(one)["shop"]["weighted_clusters"]["clusters"]}


async def test_what_half_of_the_proxies_refuse_is_taken_back_for_all(tmp_path: Path) -> None:
    ports = stage.Ports()
    document = stage.settings(ports, tmp_path / "journal.sqlite")
    document["xds"]["fallback_after"] = "500ms"
    document["interval"] = "1h"  # its ticks are the test's
    sidecar = Sidecar(parse_document(document))
    await sidecar.start()
    async with AsyncExitStack() as cleanup:
        cleanup.push_async_callback(sidecar.stop)
        strict, easy = envoy("strict", ports, tmp_path, 5), envoy("easy", ports, tmp_path, 100)
        for process in (strict, easy):
            await cleanup.enter_async_context(process)

        def shown() -> str:
            return generate_latest(sidecar.metrics.registry).decode()

        def refusals() -> dict[str, str]:
            """Node -> its standing refusal."""
            return {
                node.node_id: kind.nack
                for node in sidecar.xds.nodes()
                for kind in node.types
                if kind.nack
            }

        async def push(split: dict[str, float]) -> Plan:
            plan = Plan(dict.fromkeys(stage.ROUTES, split), {})
            await sidecar.loop.put_in_force(plan)
            return plan

        good = await push({"a": 0.5, "b": 0.3, "c": 0.2})
        await until(lambda: sidecar.loop.confirmed == good)

        # The operator's change, which one of them cannot take: it is shown, and both go on with
        # what both took.
        await sidecar.apply(parse_document(with_a_regex(document)))
        await until(lambda: 'kind="fallback"' in shown())
        assert 'kind="nack"' in shown()
        await until(lambda: "regex" not in routes(easy))
        assert weights(strict) == weights(easy) == {"a": 5000, "b": 3000, "c": 2000}

        # A plan on top of it is refused with it, taken back, and none is tried for a while.
        await push({"a": 0.1, "b": 0.1, "c": 0.8})
        await until(lambda: sidecar.loop.plan == good)
        await until(lambda: weights(easy) == {"a": 5000, "b": 3000, "c": 2000})
        assert weights(strict) == weights(easy)
        decision = await sidecar.loop.tick()
        assert decision.action is Action.HOLD
        assert "Envoy refused it" in decision.why
        assert "eigenmesh_plans_refused_total 1.0" in shown()

        # What the strict one can take is taken by both again.
        await sidecar.apply(parse_document(document))
        better = await push({"a": 0.6, "b": 0.2, "c": 0.2})
        await until(lambda: sidecar.loop.confirmed == better)
        assert weights(strict) == weights(easy) == {"a": 6000, "b": 2000, "c": 2000}
        assert refusals() == {}
        mesh = mesh_hash(sidecar.loop.settings.topology)
    journal = Journal(tmp_path / "journal.sqlite")
    assert journal.resume(mesh).plan == better
    journal.close()
