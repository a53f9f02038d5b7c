"""Errors say which field, which value and what to do, in words and for programs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from eigenmesh.api.client import MeshClient
from eigenmesh.api.errors import details_of, status_of
from eigenmesh.control.journal import JournalError, JournalWriteError
from eigenmesh.control.operations import NotFoundError, StateError
from eigenmesh.mesh import MeshError
from eigenmesh.optimize.worker import SolverError
from eigenmesh.v1 import mesh_service_pb2 as reads
from eigenmesh.v1 import operations_service_pb2 as writes

from .stage import Stage

Call = Callable[[MeshClient], Awaitable[object]]

BAD: dict[str, tuple[Call, str, str]] = {
    "mode": (
        lambda c: c._writes.SetMode(
            writes.SetModeRequest(name="meshes/-", mode=7)  # type: ignore[arg-type]
        ),
        "mode",
        "MODE_OBSERVE",
    ),
    "no name": (lambda c: c._reads.GetMesh(reads.GetMeshRequest()), "name", "meshes/{mesh}"),
    "no parent": (
        lambda c: c._reads.ListNodes(reads.ListNodesRequest()),
        "parent",
        "meshes/{mesh}",
    ),
    "wrong kind": (
        lambda c: c._reads.GetRoute(reads.GetRouteRequest(name="meshes/-/clusters/a")),
        "name",
        "meshes/{mesh}/routes/{id}",
    ),
    "number": (lambda c: c.get_decision(2**63), "name", "number of a decision"),
    "word": (lambda c: c.approve("latest"), "name", "number of a decision"),
    "page size": (
        lambda c: c._reads.ListRoutes(reads.ListRoutesRequest(parent="meshes/-", page_size=-1)),
        "page_size",
        "or more",
    ),
    "page token": (
        lambda c: c._reads.ListRoutes(
            reads.ListRoutesRequest(parent="meshes/-", page_token="elsewhere")
        ),
        "page_token",
        "next_page_token",
    ),
    "view": (
        lambda c: c._reads.ListDecisions(
            reads.ListDecisionsRequest(parent="meshes/-", view=9)  # type: ignore[arg-type]
        ),
        "view",
        "DecisionView",
    ),
    "a long reason": (lambda c: c.pause("x" * 10_000), "why", "500 characters"),
    "a reason that moves the cursor": (lambda c: c.pause("\x1b[2J"), "why", "one line"),
    "no end": (lambda c: c._writes.Freeze(writes.FreezeRequest(name="meshes/-")), "end", "until"),
    "a past end": (
        lambda c: c._writes.Freeze(writes.FreezeRequest(name="meshes/-", until={"seconds": 5})),
        "until",
        "to come",
    ),
    "no weights": (lambda c: c.pin("shop", {}), "weights", "at least one"),
    "a weight that is none": (
        lambda c: c.pin("shop", {"a": float("nan")}),
        "pins.shop.a",
        "0 to 1",
    ),
    "a cluster that is not there": (lambda c: c.pin("shop", {"z": 0.1}), "pins.shop", "a, b, c"),
    "no policy": (lambda c: c.set_policy({}), "values", "guard"),
    "unknown policy": (lambda c: c.set_policy({"max_stop": 1.0}), "policy.max_stop", "max_step"),
    "both": (
        lambda c: c._writes.SetPolicy(
            writes.SetPolicyRequest(name="meshes/-", values={"max_step": 0.1}, reset=["max_step"])
        ),
        "reset",
        "either",
    ),
    "demand": (lambda c: c.what_if({"shop": -1.0}), "demands.shop", "0 or more"),
    "gone": (lambda c: c.what_if(without=["a", "b", "c"]), "without", "no cluster left"),
}


async def test_a_bad_field_is_named(client: MeshClient) -> None:
    for case, (call, field, remedy) in BAD.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(client)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, case
        assert remedy in (caught.value.details() or ""), case
        [bad] = details_of(caught.value)
        assert isinstance(bad, details.BadRequest), case
        [violation] = bad.field_violations
        assert violation.field == field, case
        assert remedy in violation.description, case


async def test_a_long_value_comes_back_shortened(client: MeshClient) -> None:
    """Headers are bounded: a client must not get RESOURCE_EXHAUSTED for its own mistake."""
    for call in (client.get_route("é" * 100_000), client.what_if({"x" * 100_000: 1.0})):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() in (
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.INVALID_ARGUMENT,
        )
        assert len(caught.value.details() or "") < 2000
        assert details_of(caught.value)


async def test_what_is_no_message_is_the_callers_mistake(stage: Stage) -> None:
    async with grpc.aio.insecure_channel(stage.address) as channel:
        call = channel.unary_unary("/eigenmesh.v1.MeshService/GetMesh", None, None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\x0a\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


CODES = [
    (MeshError("f", 1, "use 2"), grpc.StatusCode.INVALID_ARGUMENT, details.BadRequest),
    (StateError("paused"), grpc.StatusCode.FAILED_PRECONDITION, details.PreconditionFailure),
    (NotFoundError("no such"), grpc.StatusCode.NOT_FOUND, details.ResourceInfo),
    (JournalWriteError("disk full"), grpc.StatusCode.UNAVAILABLE, details.RetryInfo),
    (
        SolverError("solver", "timed out", "try again"),
        grpc.StatusCode.UNAVAILABLE,
        details.RetryInfo,
    ),
    (JournalError("damaged"), grpc.StatusCode.DATA_LOSS, None),
    (RuntimeError("a secret of the inside"), grpc.StatusCode.INTERNAL, None),
]


@pytest.mark.parametrize(("error", "code", "kind"), CODES)
def test_every_error_has_its_code(
    error: Exception, code: grpc.StatusCode, kind: type | None
) -> None:
    found, status = status_of(error, "meshes/m")
    assert found is code
    assert status.code == code.value[0]
    assert [d.TypeName() for d in status.details] == (
        [f"google.rpc.{kind.__name__}"] if kind else []
    )
    assert "of the inside" not in status.message


async def test_a_full_disk_says_to_try_again_and_changes_nothing(
    stage: Stage, client: MeshClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise JournalWriteError("journal: the disk is full; free some space")

    monkeypatch.setattr(stage.journal, "put_controls", full)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.pause("a deploy")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not stage.operations.controls.paused
