"""A real Envoy: what pushes cost it, what a lost server costs it, what it refuses."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import replace

from envoy.config.route.v3.route_pb2 import RouteConfiguration

from eigenmesh.demo.processes import ChildProcess
from eigenmesh.mesh import BreakerLimits, Plan, RetryBudget
from eigenmesh.mesh.plan import to_integers
from eigenmesh.xds.options import ServerOptions
from eigenmesh.xds.resource import CLUSTER, ENDPOINT, ROUTE, RUNTIME, Resource
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.stream import ORDER

from .conftest import NAMES, ROUTES, Rig

PUSHES = 300
SWAPS = 3


def random_split(chance: random.Random) -> dict[str, float]:
    parts = {name: chance.uniform(0.05, 1.0) for name in NAMES}
    return {name: part / sum(parts.values()) for name, part in parts.items()}


def everywhere(**split: float) -> dict[str, dict[str, float]]:
    """The same split on every route."""
    return dict.fromkeys(ROUTES, split)


async def test_weight_and_breaker_pushes_cost_no_request_and_no_connection(rig: Rig) -> None:
    chance = random.Random(7)
    translator = rig.translator()
    snapshot = translator.snapshot(rig.config.original_plan())
    server = rig.server()
    server.publish(snapshot)
    await server.start()
    try:
        await rig.start(rate=100.0)
        await asyncio.sleep(1.0)
        before = rig.counters()
        updates = rig.envoy.stats(
            r"http\.ingress\.rds\.edge\.config_reload$|runtime\.load_success$"
        )
        plan = rig.config.original_plan()
        for _ in range(PUSHES):
            plan = Plan({route: random_split(chance) for route in ROUTES}, plan.limits)
            snapshot = translator.snapshot(plan, snapshot)
            server.publish(snapshot)
            assert await server.wait_acked(ROUTE, snapshot.of(ROUTE).version, 10.0)
            limits = {name: BreakerLimits.around(chance.randint(100, 900)) for name in NAMES}
            plan = Plan(plan.weights, limits)
            snapshot = translator.snapshot(plan, snapshot)
            server.publish(snapshot)
            assert await server.wait_acked(RUNTIME, snapshot.of(RUNTIME).version, 10.0)
            await asyncio.sleep(0.01)  # requests between any two pushes, however fast these are
        pushed = rig.envoy.stats(r"http\.ingress\.rds\.edge\.config_reload$|runtime\.load_success$")
        assert [n - updates[name] for name, n in pushed.items()] == [PUSHES, PUSHES]
        assert rig.weights() == {r: to_integers(split) for r, split in plan.weights.items()}
        for name in NAMES:
            assert rig.max_requests(name) == {plan.limits[name].max_requests}
        # A budget holds though the cluster itself has none, and max_retries no longer does.
        limits = {"a": replace(limits["a"], retry_budget=RetryBudget(0.0, 7))}
        snapshot = translator.snapshot(Plan(plan.weights, limits), snapshot)
        server.publish(snapshot)
        assert await server.wait_acked(RUNTIME, snapshot.of(RUNTIME).version, 10.0)
        assert rig.max_retries("a") == {7}
        assert rig.max_retries("b") == {3}, "Envoy's own default, without a key"
        assert rig.counters() == before, "a connection, a cluster or a listener was touched"
        answers = await rig.answers()
        assert set(answers) == {200}
        assert answers.total() > 300

        # The same counters do see what a change of a cluster costs.
        rig.document["static_resources"]["clusters"][0]["connect_timeout"] = "2s"
        changed = rig.translator().snapshot(plan)
        server.publish(changed)
        assert await server.wait_acked(CLUSTER, changed.of(CLUSTER).version, 10.0)
        while rig.envoy.stats(r"warming_clusters")["cluster_manager.warming_clusters"]:
            await asyncio.sleep(0.05)
        after = rig.counters()
        assert after["cluster.a.upstream_cx_destroy"] > before["cluster.a.upstream_cx_destroy"]
        assert after["cluster.b.upstream_cx_destroy"] == before["cluster.b.upstream_cx_destroy"]
    finally:
        await server.stop()


async def test_a_killed_server_costs_nothing_and_neither_does_its_return(rig: Rig) -> None:
    plan = Plan(everywhere(a=0.5, b=0.3, c=0.2), {"a": BreakerLimits.around(77)})
    files = [rig.folder / "operator.json", rig.folder / "plan.json"]
    files[0].write_text(json.dumps(rig.document))
    files[1].write_text(json.dumps(plan.to_dict()))

    def serve(number: int) -> ChildProcess:
        argv = [sys.executable, str(__file__).replace("test_envoy", "serving")]
        argv += [*map(str, files), str(rig.xds_port)]
        log = rig.folder / f"server-{number}.log"
        return ChildProcess(f"xds-{number}", argv, ready_port=rig.xds_port, log=log)

    async def connected(wanted: int) -> None:
        async with asyncio.timeout(20):
            state = "control_plane.connected_state"
            while rig.envoy.stats(state)[state] != wanted:
                await asyncio.sleep(0.05)

    async with serve(1) as first:
        await rig.start(rate=100.0)
        await asyncio.sleep(0.5)
        before = rig.counters()
        updates = rig.envoy.stats(r"update_(success|rejected)$|config_reload$|load_success$")
        weights = rig.weights()
        assert weights["shop"] == {"a": 5000, "b": 3000, "c": 2000}
        first.kill()
        await connected(0)
        await asyncio.sleep(1.0)
        assert rig.weights() == weights
        assert rig.max_requests("a") == {77}
    async with serve(2):
        await connected(1)
        await asyncio.sleep(1.0)
        assert rig.weights() == weights
        assert rig.max_requests("a") == {77}
        assert rig.counters() == before, "a connection, a cluster or a listener was touched"
        again = rig.envoy.stats(r"update_(success|rejected)$|config_reload$|load_success$")
        if rig.delta:
            assert again == updates, "something was sent that Envoy has"
        else:
            # Named resources are sent again, and Envoy finds them unchanged.
            reloads = [name for name in again if name.endswith("config_reload")]
            assert {n: again[n] for n in reloads} == {n: updates[n] for n in reloads}
        assert set(await rig.answers()) == {200}


def refused(name: str) -> Resource:
    """Two virtual hosts for the same domain."""
    table = RouteConfiguration(name=name)
    for host in ("one", "two"):
        table.virtual_hosts.add(name=host, domains=["*"])
    return Resource.of(table, name)


async def test_what_envoy_refuses_is_parked_and_shown_until_it_changes(rig: Rig) -> None:
    translator = rig.translator()
    good = translator.snapshot(rig.config.original_plan())
    server = rig.server()
    server.publish(good)
    await server.start()
    try:
        await rig.start(rate=50.0)
        sent = rig.happened("sent", ROUTE)
        bad = good.replace([refused("edge")])
        server.publish(bad)
        assert not await server.wait_acked(ROUTE, bad.of(ROUTE).version, 10.0)
        await asyncio.sleep(1.0)
        server.publish(bad)
        # Other types go on, and do not bring it back.
        other = translator.snapshot(
            Plan(rig.config.original_plan().weights, {"a": BreakerLimits.around(99)}), bad
        ).replace([refused("edge")])
        server.publish(other)
        assert await server.wait_acked(RUNTIME, other.of(RUNTIME).version, 10.0)
        assert rig.happened("sent", ROUTE) == sent + 1, "sent once, and not again"
        assert rig.happened("nack", ROUTE) == 1
        [nack] = [e for e in rig.events if e.kind == "nack"]
        assert "Only a single wildcard domain" in nack.detail
        [node] = server.nodes()
        [status] = [t for t in node.types if t.type_url == ROUTE]
        assert status.nack == nack.detail
        assert status.nacks == 1
        assert status.sent_version == bad.of(ROUTE).version
        assert status.acked_version == good.of(ROUTE).version
        assert rig.weights()["shop"] == {"a": 1, "b": 1, "c": 1}, "the operator's own"

        plan = Plan(everywhere(a=0.8, b=0.1, c=0.1), {})
        better = translator.snapshot(plan, other)
        server.publish(better)
        assert await server.wait_acked(ROUTE, better.of(ROUTE).version, 10.0)
        [status] = [t for t in server.nodes()[0].types if t.type_url == ROUTE]
        assert (status.nack, status.acked_version) == ("", better.of(ROUTE).version)
        assert rig.weights()["shop"] == {"a": 8000, "b": 1000, "c": 1000}
        assert set(await rig.answers()) == {200}
    finally:
        await server.stop()


async def test_what_envoy_keeps_refusing_gives_way_to_what_it_took(rig: Rig) -> None:
    server = rig.server(ServerOptions(fallback_after=0.5))
    good = rig.translator().snapshot(rig.config.original_plan())
    server.publish(good)
    await server.start()
    try:
        await rig.start(rate=50.0)
        bad = good.replace([refused("edge")])
        server.publish(bad)
        assert not await server.wait_acked(ROUTE, bad.of(ROUTE).version, 10.0)
        async with asyncio.timeout(10):
            while not (events := [e for e in rig.events if e.kind == "fallback"]):
                await asyncio.sleep(0.02)
            while any(t.nack for t in server.nodes()[0].types):
                await asyncio.sleep(0.02)
        assert await server.wait_acked(ROUTE, good.of(ROUTE).version, 10.0)
        [event] = events
        assert event.version == bad.of(ROUTE).resources["edge"].version
        assert "Only a single wildcard domain" in event.detail
        assert set(await rig.answers()) == {200}
    finally:
        await server.stop()


async def test_a_changed_eds_cluster_does_not_wait_for_its_endpoints(rig: Rig) -> None:
    plan = rig.config.original_plan()
    server = rig.server()
    server.publish(rig.translator().snapshot(plan))
    await server.start()
    try:
        await rig.start(rate=50.0)
        await asyncio.sleep(0.5)
        rig.document["static_resources"]["clusters"][2]["lb_policy"] = "RANDOM"
        changed = rig.translator().snapshot(plan)
        server.publish(changed)
        # Without its endpoints it would warm for 15 s (ConfigSource.initial_fetch_timeout).
        async with asyncio.timeout(1.0):
            while rig.envoy.stats(r"cluster_manager\.(cluster_modified|warming_clusters)$") != {
                "cluster_manager.cluster_modified": 1,
                "cluster_manager.warming_clusters": 0,
            }:
                await asyncio.sleep(0.02)
        assert await server.wait_acked(CLUSTER, changed.of(CLUSTER).version, 10.0)
        assert rig.happened("sent", ENDPOINT) == 2
        assert set(await rig.answers()) == {200}
        assert rig.envoy.stats(r"^cluster\.c\.init_fetch_timeout") == {
            "cluster.c.init_fetch_timeout": 0
        }
    finally:
        await server.stop()


async def test_clusters_come_and_go_under_load_without_a_503(rig: Rig) -> None:
    """Added, shifted to and removed; then one for the other in a single push, again and again."""
    server = rig.server()

    async def push(**split: float) -> None:
        rig.events.clear()
        snapshot = rig.translator().snapshot(Plan(everywhere(**split), {}))
        server.publish(snapshot)
        for type_url in (CLUSTER, ENDPOINT, ROUTE):
            assert await server.wait_acked(type_url, snapshot.of(type_url).version, 10.0)
        await asyncio.sleep(0.2)  # requests on what is in force now
        assert rig.clusters() == {"a", "b", *split}

    rig.declare("c")
    server.publish(rig.translator().snapshot(Plan(everywhere(a=0.4, b=0.3, c=0.3), {})))
    await server.start()
    try:
        await rig.start(rate=100.0)
        rig.declare("c", "d")
        await push(a=0.2, b=0.1, c=0.2, d=0.5)
        # Make before break: the routes that name the cluster came when that was warm.
        order = [e.type_url for e in rig.events if e.kind in ("sent", "ack")]
        assert order.index(ROUTE) > max(i for i, t in enumerate(order) if t == CLUSTER)
        await push(a=0.2, b=0.1, c=0.0, d=0.7)
        rig.declare("d")
        await push(a=0.2, b=0.1, d=0.7)
        for name in ("c", "d") * SWAPS:
            rig.declare(name)
            await push(a=0.0, b=0.1, **{name: 0.9})
        stats = rig.envoy.stats(r"cluster_(removed|modified)$|^cluster\.d\.upstream_rq_total$")
        assert stats["cluster_manager.cluster_removed"] == 1 + 2 * SWAPS
        assert stats["cluster_manager.cluster_modified"] == 0
        assert stats["cluster.d.upstream_rq_total"] > 0
        assert set(await rig.answers()) == {200}
    finally:
        await server.stop()


async def test_serving_begins_with_the_first_snapshot(rig: Rig) -> None:
    """Until then nothing is said: a missing cluster would be a removed one."""
    server = rig.server()
    await server.start()
    try:
        rig.envoy.start()
        async with asyncio.timeout(20):
            while not server.nodes():
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        assert not [e for e in rig.events if e.kind == "sent"]
        assert all(t.sent_version == "" for t in server.nodes()[0].types)
        snapshot: Snapshot = rig.translator().snapshot(rig.config.original_plan())
        server.publish(snapshot)
        await rig.envoy.ready()
        for type_url in (t for t in ORDER if snapshot.of(t).resources):
            assert await server.wait_acked(type_url, snapshot.of(type_url).version, 10.0)
    finally:
        await server.stop()
