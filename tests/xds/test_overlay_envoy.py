"""A real Envoy that has everything from another control plane but one runtime layer."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from eigenmesh.demo.processes import EnvoyProcess, free_port
from eigenmesh.mesh import BreakerLimits, Plan
from eigenmesh.mesh.plan import to_integers
from eigenmesh.xds.bootstrap import XDS_CLUSTER, bootstrap, bootstrap_yaml
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.operator import OperatorConfig, parse_operator
from eigenmesh.xds.overlay import OverlayTranslator
from eigenmesh.xds.resource import RUNTIME
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.snapshot import Snapshot

from .conftest import NAMES, ROUTES, Rig
from .test_envoy import everywhere, random_split

PUSHES = 100


@dataclass
class Beside:
    """`rig` with its server in the role of the other control plane, and ours on `port`."""

    rig: Rig
    port: int
    events: list[XdsEvent] = field(default_factory=list)

    @property
    def config(self) -> OperatorConfig:
        return parse_operator(self.rig.document, overlay=True)

    def server(self) -> XdsServer:
        return XdsServer(f"127.0.0.1:{self.port}", on_event=self.events.append, only=RUNTIME)

    async def push(self, server: XdsServer, snapshot: Snapshot) -> None:
        server.publish(snapshot)
        assert await server.wait_acked(RUNTIME, snapshot.of(RUNTIME).version, 10.0)

    def layer(self) -> dict[str, int]:
        """The keys that Envoy says our layer has."""
        entries = json.loads(self.rig.envoy.admin("/runtime"))
        assert entries["layers"] == ["eigenmesh"]
        return {key: int(e["final_value"]) for key, e in entries["entries"].items()}

    def untouched(self) -> dict[str, int]:
        """What must not move: the other control plane's updates, and what they would cost."""
        stats = self.rig.envoy.stats(
            r"(update_(success|rejected)|config_reload|_(added|modified|removed|updated)|draining"
            r"|upstream_cx_(destroy|connect_fail|overflow))$"
        )
        ours = ("runtime.", f"cluster.{XDS_CLUSTER}.")
        return {name: n for name, n in stats.items() if not name.startswith(ours)}

    def answered(self) -> Counter[str]:
        """Requests by cluster, so far."""
        stats = self.rig.envoy.stats(r"^cluster\.[abc]\.upstream_rq_total$")
        return Counter({name.split(".")[1]: n for name, n in stats.items()})


@pytest.fixture
async def beside(rig: Rig) -> AsyncIterator[Beside]:
    for listener in rig.document["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
            route["stat_prefix"] = route["name"]
            route["route"]["weighted_clusters"]["runtime_key_prefix"] = f"weights.{route['name']}"
    port = free_port()

    def joins(xds_port: int) -> dict[str, object]:
        return {
            "node_id": "envoy-1",
            "node_cluster": "edge",
            "xds_address": f"127.0.0.1:{xds_port}",
            "admin_address": f"127.0.0.1:{rig.envoy.admin_port}",
            "runtime_layer": "eigenmesh",
            "delta": rig.delta,
        }

    theirs = bootstrap(**joins(rig.xds_port))  # type: ignore[arg-type]
    theirs = json.loads(json.dumps(theirs).replace(XDS_CLUSTER, "their_xds"))
    # What an operator has, and what is printed for it, put together by Envoy itself.
    del theirs["layered_runtime"], theirs["stats_flush_on_admin"], theirs["stats_config"]
    ours = bootstrap_yaml(**joins(port), overlay=True)  # type: ignore[arg-type]
    rig.envoy = EnvoyProcess(
        theirs,
        rig.envoy.admin_port,
        log=rig.folder / "envoy.log",
        version=rig.version,
        extra=("--config-yaml", ours),
    )
    try:
        yield Beside(rig, port)
    finally:
        await asyncio.to_thread(rig.envoy.stop)


async def test_one_layer_steers_and_nothing_of_the_others_is_touched(beside: Beside) -> None:
    rig, config = beside.rig, beside.config
    chance = random.Random(7)
    translator = OverlayTranslator(config)
    snapshot = translator.snapshot(config.original_plan())
    theirs, ours = rig.server(), beside.server()
    theirs.publish(rig.translator().snapshot(rig.config.original_plan()))
    ours.publish(snapshot)
    await theirs.start()
    await ours.start()
    try:
        await rig.start(rate=100.0)
        await asyncio.sleep(1.0)
        assert beside.layer() == {}, "the operator's own numbers need no keys"
        before, sent = beside.untouched(), rig.happened("sent", RUNTIME)
        assert {"http.ingress.rds.edge.config_reload", "cluster.a.upstream_cx_destroy"} <= set(
            before
        )
        loads = rig.envoy.stats(r"^runtime\.load_success$")["runtime.load_success"]
        for _ in range(PUSHES):
            limits = {name: BreakerLimits.around(chance.randint(100, 900)) for name in NAMES}
            plan = Plan({route: random_split(chance) for route in ROUTES}, limits)
            snapshot = translator.snapshot(plan, snapshot)
            await beside.push(ours, snapshot)
            await asyncio.sleep(0.02)  # requests between any two pushes
        assert rig.envoy.stats(r"^runtime\.load_success$")["runtime.load_success"] == loads + PUSHES
        shown = beside.layer()
        for route in ROUTES:
            split = to_integers(plan.weights[route])
            assert {c: shown[f"weights.{route}.{c}"] for c in NAMES} == split
        for name in NAMES:
            assert rig.max_requests(name) == {plan.limits[name].max_requests}
        assert rig.weights() == {route: dict.fromkeys(NAMES, 1) for route in ROUTES}

        # Where the requests go.
        await beside.push(ours, translator.snapshot(Plan(everywhere(a=0.7, b=0.3, c=0.0), {})))
        start = beside.answered()
        async with asyncio.timeout(30):
            while (beside.answered() - start).total() < 400:
                await asyncio.sleep(0.1)
        went = beside.answered() - start
        assert went["c"] == 0
        # Six standard deviations of the binomial distribution.
        assert abs(went["a"] - 0.7 * went.total()) < 6 * (0.21 * went.total()) ** 0.5

        # Without Eigenmesh the last plan holds.
        await ours.stop()
        async with asyncio.timeout(20):
            connected = f"cluster.{XDS_CLUSTER}.upstream_cx_active"
            while rig.envoy.stats(connected)[connected]:
                await asyncio.sleep(0.05)
        start = beside.answered()
        await asyncio.sleep(1.0)
        assert beside.layer()["weights.shop.a"] == 7000
        went = beside.answered() - start
        assert went["a"] > 0
        assert went["c"] == 0

        # And the operator's own, once it has said so.
        ours = beside.server()
        await ours.start()
        await beside.push(ours, translator.snapshot(config.original_plan()))
        assert beside.layer() == {}
        assert rig.max_requests("a") == {1024}

        assert beside.untouched() == before, "the other control plane's configuration was touched"
        assert rig.happened("sent", RUNTIME) == sent == 0
        answers = await rig.answers()
        assert set(answers) == {200}
        assert answers.total() > 400
    finally:
        await ours.stop()
        await theirs.stop()


async def test_envoy_starts_without_eigenmesh_and_takes_the_layer_when_it_comes(
    beside: Beside,
) -> None:
    rig, config = beside.rig, beside.config
    theirs, ours = rig.server(), beside.server()
    theirs.publish(rig.translator().snapshot(rig.config.original_plan()))
    await theirs.start()
    try:
        await rig.start(rate=50.0)
        timeouts = rig.envoy.stats(r"^runtime\.init_fetch_timeout$")
        assert list(timeouts.values()) == [1], "it waited, and went on"
        assert beside.layer() == {}
        plan = Plan(everywhere(a=0.8, b=0.1, c=0.1), {"a": BreakerLimits.around(77)})
        ours.publish(OverlayTranslator(config).snapshot(plan))
        await ours.start()
        async with asyncio.timeout(20):
            while not beside.layer():
                await asyncio.sleep(0.05)
        assert beside.layer()["weights.search.a"] == 8000
        assert rig.max_requests("a") == {77}
        assert set(await rig.answers()) == {200}
    finally:
        await ours.stop()
        await theirs.stop()


async def test_an_envoy_that_asks_for_more_is_given_nothing_and_loses_nothing(rig: Rig) -> None:
    """Its ADS leads to an Eigenmesh that was put into overlay mode since."""
    events: list[XdsEvent] = []
    server = rig.server()
    server.publish(rig.translator().snapshot(rig.config.original_plan()))
    await server.start()
    layer_only = XdsServer(f"127.0.0.1:{rig.xds_port}", on_event=events.append, only=RUNTIME)
    try:
        await rig.start(rate=50.0)
        before = rig.counters()
        await server.stop()
        layer_only.publish(OverlayTranslator(rig.config).snapshot(Plan({}, {})))
        await layer_only.start()
        async with asyncio.timeout(20):
            while not any(e.kind == "disconnect" for e in events):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        assert {e.type_url for e in events if e.kind == "sent"} <= {RUNTIME}
        assert rig.counters() == before, "a cluster or a listener was taken from it"
        assert set(await rig.answers()) == {200}
    finally:
        await layer_only.stop()
        await server.stop()
