"""Three real Envoys share a cluster's limit, each by its share of the traffic."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eigenmesh.control.settings import parse_document
from eigenmesh.control.sidecar import Sidecar
from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.processes import EnvoyProcess, ProcessError, free_port
from eigenmesh.mesh import BreakerLimits, Plan
from eigenmesh.xds.bootstrap import bootstrap

from .conftest import upstream

NAMES = ("one", "two", "three")
LIMIT = 60
INTERVAL = 1.0


@dataclass
class Fleet:
    """totals: the sum of what the Envoys have in force, each time that it was looked at.

    They are asked one after the other, so only what was found twice running is a moment's sum:
    a limit that one has given back and another was given in between would be counted in both.
    """

    sidecar: Sidecar
    envoys: dict[str, EnvoyProcess]
    loads: dict[str, LoadGenerator]
    totals: list[int] = field(default_factory=list)
    phases: int = 0

    def limits(self, cluster: str = "a", field: str = "max_requests") -> dict[str, int]:
        """In force now, by Envoy, as it says itself."""
        found = {}
        for name, envoy in self.envoys.items():
            try:
                text = envoy.admin("/clusters")
            except (OSError, ProcessError):
                continue  # not there
            [limit] = re.findall(rf"^{cluster}::default_priority::{field}::(\d+)$", text, re.M)
            found[name] = int(limit)
        return found

    async def watch(self) -> None:
        before: dict[str, int] = {}
        while True:
            found = await asyncio.to_thread(self.limits)
            if found == before:
                self.totals.append(sum(found.values()))
            before = found
            await asyncio.sleep(0.01)

    async def send(self, **rates: float) -> None:
        self.phases += 1
        for name, rate in rates.items():
            phase = f"{name}-{self.phases}"
            await self.loads[name].begin(phase, {"shop": rate}, seed=self.phases)

    async def until(self, **wanted: tuple[int, int]) -> dict[str, int]:
        """Waits until every Envoy's limit is within its range, at most two ticks and some."""
        found: dict[str, int] = {}
        try:
            async with asyncio.timeout(3 * INTERVAL + 2.0):
                while True:
                    found = await asyncio.to_thread(self.limits)
                    within = (
                        low <= found.get(name, 0) <= high for name, (low, high) in wanted.items()
                    )
                    if all(within):
                        return found
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{found}, not {wanted}") from None


def own(resources: dict[str, Any], name: str, port: int) -> dict[str, Any]:
    """The stage's resources, on a port of this Envoy's own."""
    made = copy.deepcopy(resources)
    [listener] = made["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["stat_prefix"] = manager["route_config"]["name"] = name
    for host in manager["route_config"]["virtual_hosts"]:
        if host["name"] == stage.STEERED:
            host["name"] = name
    return made


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    ports = stage.Ports()
    admins = {name: free_port() for name in NAMES}
    listening = {name: free_port() for name in NAMES}
    document = stage.settings(ports, tmp_path / "journal.sqlite")
    static = document["envoy"]["static_resources"]
    document["groups"] = [
        {
            "name": name,
            "match": {"id": name},
            "envoy": {"static_resources": own(static, name, listening[name])},
            "steer": ["shop"],
        }
        for name in NAMES
    ]
    # Nothing but the division moves here.
    document |= {"mode": "auto", "interval": f"{INTERVAL:g}s", "solver": "classical"}
    document["guard"] = {"min_gain": 1.0}
    urls = [f"http://127.0.0.1:{port}" for port in admins.values()]
    document["telemetry"] = {"envoy": {"admin": urls}}
    async with AsyncExitStack() as cleanup:
        for one in stage.UPSTREAMS:
            await cleanup.enter_async_context(upstream(one, ports))
        sidecar = Sidecar(parse_document(document))
        await sidecar.start()
        cleanup.push_async_callback(sidecar.stop)
        envoys, loads = {}, {}
        for name in NAMES:
            start = bootstrap(
                node_id=name,
                node_cluster="edge",
                xds_address=f"127.0.0.1:{ports.xds}",
                admin_address=f"127.0.0.1:{admins[name]}",
                runtime_layer="eigenmesh",
            )
            envoys[name] = EnvoyProcess(start, admins[name], log=tmp_path / f"{name}.log")
            loads[name] = LoadGenerator(listening[name])
        for name in NAMES:
            await cleanup.enter_async_context(envoys[name])
            await cleanup.enter_async_context(loads[name])
        limits = dict.fromkeys("abc", BreakerLimits.around(LIMIT))
        split = {"a": 0.8, "b": 0.1, "c": 0.1}
        await sidecar.loop.put_in_force(
            Plan(dict.fromkeys(sidecar.loop.plan.weights, split), limits)
        )
        running = Fleet(sidecar, envoys, loads)
        await running.until(**dict.fromkeys(NAMES, (LIMIT // 3, LIMIT // 3)))
        watching = asyncio.create_task(running.watch())
        cleanup.callback(watching.cancel)
        yield running


async def test_parts_follow_the_traffic_and_never_sum_to_more_than_the_limit(
    fleet: Fleet,
) -> None:
    await fleet.send(one=210, two=60, three=30)
    found = await fleet.until(one=(34, 44), two=(10, 17), three=(6, 11))
    retries = fleet.limits(field="max_retries")
    whole = BreakerLimits.around(LIMIT).max_retries
    assert sum(retries.values()) <= whole

    await fleet.send(one=30, two=60, three=210)
    await fleet.until(one=(6, 11), two=(10, 17), three=(34, 44))

    fleet.envoys["three"].kill()
    found = await fleet.until(one=(15, 30), two=(30, 45))
    assert sum(found.values()) == LIMIT
    assert len(fleet.totals) > 50
    assert max(fleet.totals) <= LIMIT


async def test_who_restarts_gets_its_part_and_eigenmesh_may_restart_unseen(fleet: Fleet) -> None:
    await fleet.send(one=120, two=120, three=60)
    await fleet.until(one=(20, 27), two=(20, 27), three=(9, 17))
    fleet.envoys["three"].kill()
    await fleet.until(one=(27, 33), two=(27, 33))
    await asyncio.to_thread(fleet.envoys["three"].start)
    await fleet.envoys["three"].ready()
    found = await fleet.until(three=(1, LIMIT // 3))
    assert sum(found.values()) <= LIMIT
    assert max(fleet.totals) <= LIMIT
    basis = fleet.sidecar.proxies.basis
    assert basis == "divided by each Envoy's share of the traffic"
