"""What is served to each Envoy: parts of the plan's limits, found again after a restart."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from eigenmesh.control.fleet import Grants
from eigenmesh.control.proxies import RESUMED, Proxies
from eigenmesh.mesh import BreakerLimits, Observation, Plan, ProxyLoad
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.resource import RUNTIME, Resource
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.snapshot import Snapshot, TypeSet
from eigenmesh.xds.translate import runtime

PLAN = Plan({}, {"a": BreakerLimits.around(40)})


class Content:
    """One group whose layer tells nothing but the limits."""

    groups: tuple[str, ...] = ("default",)
    clusters: tuple[str, ...] = ("a",)

    def layer(self, plan: Plan, grants: Grants | None = None) -> Resource:
        limits = self.divided(plan) if grants is None else grants
        return runtime("eigenmesh", {f"limit.{name}": limit for name, limit in limits.items()})

    def divided(self, plan: Plan) -> Mapping[str, int]:
        return {name: limits.max_requests for name, limits in plan.limits.items()}


class Rig:
    """Envoys that ask and answer by events alone; the server has no port."""

    def __init__(self, resumed: Mapping[str, Grants] | None = None) -> None:
        self.now = 1000.0
        self.xds = XdsServer("127.0.0.1:0")
        self.proxies = Proxies(
            [Content()], self.xds, interval=2.0, resumed=resumed, clock=lambda: self.now
        )
        self.put(PLAN)

    def put(self, plan: Plan) -> None:
        self.proxies.put(plan)
        self.xds.publish(Snapshot([Content().layer(plan)]), own=self.proxies.own("default"))

    def event(self, kind: str, node: str, version: str = "") -> None:
        self.proxies.on_event(XdsEvent(kind, node, RUNTIME, version, group="default"))  # type: ignore[arg-type]

    def version(self, node: str) -> str:
        snapshot = self.xds._group("default").snapshot_of(node)
        assert snapshot is not None
        return snapshot.of(RUNTIME).version

    def take(self, *nodes: str) -> None:
        for node in nodes:
            self.event("ack", node, self.version(node))

    def served(self, node: str) -> int:
        for limit in range(100):
            layer = Content().layer(PLAN, {"a": limit})
            if TypeSet(RUNTIME, {layer.name: layer}).version == self.version(node):
                return limit
        raise AssertionError(node)

    async def seen(self, **requests: float) -> None:
        loads = {node: {"a": ProxyLoad(rate, 1.0)} for node, rate in requests.items()}
        await self.proxies.observed(Observation(0.0, 2.0, {}, {}, proxies=loads))
        self.take(*self.proxies.grants)
        self.take(*self.proxies.grants)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_one_envoy_is_served_what_the_group_is(rig: Rig) -> None:
    before = rig.version("one")
    rig.event("subscribe", "one")
    assert rig.version("one") == before
    assert rig.proxies.grants == {"one": {"a": 40}}
    assert rig.proxies.basis == ""


async def test_the_next_one_waits_until_the_first_has_given_back(rig: Rig) -> None:
    rig.event("subscribe", "one")
    rig.take("one")
    rig.event("subscribe", "two")
    assert (rig.served("one"), rig.served("two")) == (20, 0)
    rig.take("one")
    assert (rig.served("one"), rig.served("two")) == (20, 20)
    assert "node_label" in rig.proxies.basis


async def test_parts_follow_the_traffic(rig: Rig) -> None:
    for node in ("one", "two"):
        rig.event("subscribe", node)
    rig.take("one", "two")
    await rig.seen(one=900.0, two=100.0)
    await rig.seen(one=900.0, two=100.0)
    assert rig.served("one") == pytest.approx(40 * 0.86, abs=1)
    assert rig.served("one") + rig.served("two") == 40


async def test_an_envoy_that_only_lost_its_stream_keeps_its_part(rig: Rig) -> None:
    for node in ("one", "two"):
        rig.event("subscribe", node)
    rig.take("one", "two")
    rig.event("disconnect", "two")
    for _ in range(3):
        rig.now += 2.0
        await rig.seen(one=50.0, two=50.0)
    assert rig.served("one") == 20


async def test_an_envoy_that_is_gone_leaves_its_part_to_the_others(rig: Rig) -> None:
    for node in ("one", "two"):
        rig.event("subscribe", node)
    rig.take("one", "two")
    rig.event("disconnect", "two")
    await rig.seen(one=100.0)
    assert rig.served("two") > 0, "it may only be connecting anew"
    rig.now += 2.0
    await rig.seen(one=100.0)
    assert rig.served("one") == 40


async def test_after_a_restart_everyone_finds_what_it_has() -> None:
    before = Rig()
    for node in ("one", "two"):
        before.event("subscribe", node)
    before.take("one", "two")
    await before.seen(one=900.0, two=100.0)
    await before.seen(one=900.0, two=100.0)
    versions = {node: before.version(node) for node in ("one", "two")}
    after = Rig(before.proxies.to_dict())
    assert {node: after.version(node) for node in versions} == versions
    after.event("subscribe", "one")
    assert after.version("one") == versions["one"]
    # Who does not come back is gone after a while.
    after.now += RESUMED
    await after.seen(one=900.0)
    after.now += 2.0
    await after.seen(one=900.0)
    assert after.served("one") == 40


async def test_the_operators_own_limits_are_not_divided(rig: Rig) -> None:
    rig.event("subscribe", "one")
    rig.put(Plan({}, {}))
    assert rig.proxies.grants == {"one": {}}
