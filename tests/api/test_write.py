"""What people ask of the mesh, over real gRPC: it takes effect, and it is on record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from eigenmesh.api.client import MeshClient
from eigenmesh.control.audit import AuditEntry
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import Action, Plan
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import operations_service_pb2

from .stage import Stage


async def newest(client: MeshClient) -> pb.AuditEntry:
    return await anext(client.list_audit_entries(most=1))


async def test_modes_of_the_mesh_a_route_and_a_cluster(client: MeshClient) -> None:
    assert (await client.set_mode("approve")).mode == pb.MODE_APPROVE
    controls = (await client.set_mode("observe", route="shop")).controls
    assert dict(controls.routes) == {"shop": pb.MODE_OBSERVE}
    controls = (await client.set_mode("observe", cluster="b")).controls
    assert dict(controls.clusters) == {"b": pb.MODE_OBSERVE}
    entry = await newest(client)
    assert (entry.action, entry.who, entry.outcome) == ("SetMode", "local", "ok")
    assert dict(entry.detail) == {"mode": "observe", "cluster": "b"}
    assert entry.name == f"meshes/shop-mesh/auditEntries/{entry.number}"


async def test_pause_resume_and_freeze(stage: Stage, client: MeshClient) -> None:
    mesh = await client.pause("a deploy")
    assert (mesh.controls.paused, mesh.stopped) == ("a deploy", "paused: a deploy")
    assert (await client.pause()).controls.paused, "a pause without a reason is one"
    assert not (await client.resume()).stopped
    now = stage.simulation.now
    mesh = await client.freeze(timedelta(hours=2))
    assert mesh.controls.frozen_until.ToDatetime(UTC).timestamp() == pytest.approx(now + 7200)
    assert "frozen" in mesh.stopped
    until = datetime.fromtimestamp(now + 60, UTC)
    assert (await client.freeze(until)).controls.frozen_until.ToDatetime(UTC) == until
    assert not (await client.resume()).controls.HasField("frozen_until")
    actions = [e.action async for e in client.list_audit_entries()]
    assert actions == ["Resume", "Freeze", "Freeze", "Resume", "Pause", "Pause"]


async def test_pins_canaries_and_policy(stage: Stage, client: MeshClient) -> None:
    loop = stage.simulation.loop
    guard = replace(loop.settings.guard, canaries={("shop", "c"): 0.3})
    loop.settings = replace(loop.settings, guard=guard)
    controls = (await client.pin("shop", {"a": 0.5, "b": 0.3})).controls
    assert dict(controls.pins["shop"].weights) == {"a": 0.5, "b": 0.3}
    assert not (await client.unpin("shop")).controls.pins
    [canary] = (await client.promote("shop", "c")).controls.promoted
    assert (canary.route, canary.cluster) == ("shop", "c")
    controls = (await client.set_policy({"max_step": 0.05, "deadband": 0.02})).controls
    assert dict(controls.overrides) == {"max_step": 0.05, "deadband": 0.02}
    assert loop.policy.max_step == 0.05
    controls = (await client.set_policy({"max_step": None})).controls
    assert dict(controls.overrides) == {"deadband": 0.02}


async def test_a_plan_waits_for_a_yes_or_a_no(stage: Stage, client: MeshClient) -> None:
    loop = stage.simulation.loop
    # An old plan in force, so that there is something to be won.
    loop.plan = Plan({"shop": {"a": 0.2, "b": 0.2, "c": 0.6}}, loop.plan.limits)
    await client.set_mode("approve")
    waiting = await stage.simulation.tick()
    assert waiting.action is Action.AWAIT
    mesh = await client.get_mesh()
    assert mesh.pending_decision == f"meshes/shop-mesh/decisions/{waiting.number}"
    assert (await client.get_decision("pending")).action == pb.Decision.ACTION_AWAIT
    before = loop.plan
    pushed = await client.approve(waiting.number)
    assert pushed.action == pb.Decision.ACTION_PUSH
    assert loop.plan != before
    assert not (await client.get_mesh()).pending_decision

    again = await stage.simulation.tick()
    assert again.action is Action.AWAIT
    rejected = await client.reject(why="not before lunch")
    assert rejected.number == again.number
    entry = await newest(client)
    assert (entry.action, entry.detail["why"]) == ("Reject", "not before lunch")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.approve()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    entry = await newest(client)
    assert entry.action == "Approve"
    assert "no plan waits" in entry.outcome, "what was refused is on record"


async def test_back_to_an_older_plan_and_to_the_operators_own(
    stage: Stage, client: MeshClient
) -> None:
    mesh = await client.roll_back(1)
    assert "decision 1" in mesh.stopped
    await stage.simulation.tick()
    assert stage.simulation.loop.latest is not None
    assert stage.simulation.loop.latest.action is Action.ROLLBACK
    mesh = await client.restore()
    assert "the operator's own" in mesh.stopped
    for _ in range(4):
        await stage.simulation.tick()
    assert dict((await client.get_mesh()).plan_in_force.routes[0].weights) == pytest.approx(
        dict.fromkeys("abc", 1 / 3)
    )
    actions = [e.action async for e in client.list_audit_entries() if e.who == "local"]
    assert actions == ["Restore", "RollBack"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.roll_back(99)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (await newest(client)).outcome == "decision 99 is not in the journal"


async def test_every_write_is_one_entry_with_the_name_of_its_call(
    stage: Stage, client: MeshClient
) -> None:
    loop, tick = stage.simulation.loop, stage.simulation.tick
    guard = replace(loop.settings.guard, canaries={("shop", "c"): 0.9})
    loop.settings = replace(loop.settings, guard=guard)

    async def waiting() -> None:
        """For a yes."""
        await client.set_mode("approve")
        loop.plan = Plan({"shop": {"a": 0.2, "b": 0.2, "c": 0.6}}, loop.plan.limits)
        assert (await tick()).action is Action.AWAIT

    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "SetMode": lambda: client.set_mode("auto"),
        "Pause": client.pause,
        "Resume": client.resume,
        "Freeze": lambda: client.freeze(timedelta(seconds=1)),
        "Pin": lambda: client.pin("shop", {"a": 0.5}),
        "Unpin": lambda: client.unpin("shop"),
        "Promote": lambda: client.promote("shop", "c"),
        "SetPolicy": lambda: client.set_policy({"max_step": 0.2}),
        "Approve": client.approve,
        "Reject": client.reject,
        "RollBack": lambda: client.roll_back(2),
        "Restore": client.restore,
    }
    [service] = operations_service_pb2.DESCRIPTOR.services_by_name.values()
    assert set(calls) == set(service.methods_by_name)
    for name, call in calls.items():
        if name in ("Approve", "Reject"):
            await waiting()
        before = len(stage.journal.audit())
        await call()
        new = stage.journal.audit()[: len(stage.journal.audit()) - before]
        assert [(e.action, e.who, e.outcome) for e in new] == [(name, "local", "ok")]


async def test_what_the_guard_refuses_is_on_record_and_changes_nothing(
    stage: Stage, client: MeshClient
) -> None:
    before = stage.operations.controls
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.pin("shop", {"a": 0.9, "b": 0.9})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert stage.operations.controls == before
    entry = await newest(client)
    assert (entry.action, entry.who) == ("Pin", "local")
    assert "sum to more than 1" in entry.outcome


async def test_what_was_begun_is_done_though_nobody_waits(stage: Stage, client: MeshClient) -> None:
    """A deadline over between the journal and the loop: both must have the pause."""
    loop = stage.simulation.loop
    journaled, go_on = asyncio.Event(), asyncio.Event()
    put_controls: Callable[..., Awaitable[None]] = loop.put_controls

    async def slowly(controls: Controls, entry: AuditEntry) -> None:
        journaled.set()
        await go_on.wait()
        await put_controls(controls, entry)

    loop.put_controls = slowly  # type: ignore[method-assign]
    asked = asyncio.create_task(client.pause("who asked is gone"))
    async with asyncio.timeout(20):
        await journaled.wait()
        asked.cancel()
        while not stage.calls["Pause", "CANCELLED"]:
            await asyncio.sleep(0.01)
        go_on.set()
        while not stage.operations.controls.paused:
            await asyncio.sleep(0.01)
    assert stage.journal.resume("mesh-1").controls["paused"] == "who asked is gone"  # type: ignore[index]


async def test_a_call_whose_deadline_is_over_does_nothing(stage: Stage) -> None:
    client = MeshClient(stage.address, timeout=0.0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.set_mode("observe")
    await client.close()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stage.operations.controls.mode is Mode.AUTO


async def test_a_slow_read_ends_with_its_deadline(stage: Stage) -> None:
    ended = asyncio.Event()

    async def forever(*args: Any, **kwargs: Any) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    stage.operations.what_if = forever  # type: ignore[method-assign, assignment]
    async with MeshClient(stage.address, timeout=0.2) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.what_if()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(20):
        await ended.wait()
