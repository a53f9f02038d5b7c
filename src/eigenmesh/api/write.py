"""OperationsService: what people ask of the mesh."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from eigenmesh.api.convert import MODES
from eigenmesh.api.gate import CALLER, Context
from eigenmesh.api.subject import Subject, number_of
from eigenmesh.control.audit import AuditEntry
from eigenmesh.control.journal import JournalWriteError
from eigenmesh.control.operations import NotFoundError, StateError
from eigenmesh.mesh import MeshError
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import operations_service_pb2 as api
from eigenmesh.v1.operations_service_pb2_grpc import OperationsServiceServicer

T = TypeVar("T")

log = logging.getLogger(__name__)

MOST_WORDS = 500
"""Characters of what people give as a reason."""

LATEST = 253_402_300_799
"""Unix seconds of the last second that a Timestamp may say: the year 9999 ends."""

_MODES = {int(value): mode for mode, value in MODES.items()}


class Writes(OperationsServiceServicer):
    """Raises what `errors.status_of` knows."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._operations = subject.operations
        self._begun: set[asyncio.Task[Any]] = set()

    # The names of the methods are the proto's.
    # ruff: noqa: N802

    async def SetMode(self, request: api.SetModeRequest, context: Context) -> pb.Mesh:
        kind, id = self._subject.named(request.name, "", "routes", "clusters")
        mode = _MODES.get(request.mode)
        if mode is None:
            remedy = "use MODE_OBSERVE, MODE_APPROVE or MODE_AUTO"
            raise MeshError("mode", request.mode, remedy)
        where = {kind.removesuffix("s"): self._subject.known(kind, id)} if kind else {}
        return await self._done(request, self._operations.set_mode(mode, **where, by=_who()))

    async def Pause(self, request: api.PauseRequest, context: Context) -> pb.Mesh:
        self._subject.named(request.name, "")
        why = _words("why", request.why) or f"asked by {_who()}"
        return await self._done(request, self._operations.pause(why, by=_who()))

    async def Resume(self, request: api.ResumeRequest, context: Context) -> pb.Mesh:
        self._subject.named(request.name, "")
        return await self._done(request, self._operations.resume(by=_who()))

    async def Freeze(self, request: api.FreezeRequest, context: Context) -> pb.Mesh:
        self._subject.named(request.name, "")
        now, end = self._subject.loop.clock(), request.WhichOneof("end")
        if end is None:
            raise MeshError("end", None, "give until or duration")
        given = request.until if end == "until" else request.duration
        seconds = given.seconds + given.nanos * 1e-9
        until = seconds if end == "until" else now + seconds
        if not now < until <= LATEST:
            raise MeshError(end, f"{seconds:.0f} s", "use a time to come, before the year 10000")
        return await self._done(request, self._operations.freeze(until, by=_who()))

    async def Pin(self, request: api.PinRequest, context: Context) -> pb.Mesh:
        route = self._route(request.name)
        if not request.weights:
            raise MeshError("weights", {}, "give the weight of at least one cluster")
        return await self._done(
            request, self._operations.pin(route, dict(request.weights), by=_who())
        )

    async def Unpin(self, request: api.UnpinRequest, context: Context) -> pb.Mesh:
        return await self._done(
            request, self._operations.unpin(self._route(request.name), by=_who())
        )

    async def Promote(self, request: api.PromoteRequest, context: Context) -> pb.Mesh:
        route = self._route(request.name)
        return await self._done(
            request, self._operations.promote(route, request.cluster, by=_who())
        )

    async def SetPolicy(self, request: api.SetPolicyRequest, context: Context) -> pb.Mesh:
        self._subject.named(request.name, "")
        if not request.values and not request.reset:
            raise MeshError("values", {}, "give a setting of the guard, or one to reset")
        if both := sorted(set(request.values) & set(request.reset)):
            raise MeshError("reset", both, "either set it or reset it")
        overrides = {**request.values, **dict.fromkeys(request.reset)}
        return await self._done(request, self._operations.set_policy(overrides, by=_who()))

    async def Approve(self, request: api.ApproveRequest, context: Context) -> pb.Decision:
        number = self._pending(request.name)
        made = await self._whole(request, self._operations.approve(number, by=_who()))
        return await self._subject.decision(made)

    async def Reject(self, request: api.RejectRequest, context: Context) -> pb.Decision:
        number, why = self._pending(request.name), _words("why", request.why)
        dropped = await self._whole(request, self._operations.reject(number, why, by=_who()))
        return await self._subject.decision(dropped)

    async def RollBack(self, request: api.RollBackRequest, context: Context) -> pb.Mesh:
        _, id = self._subject.named(request.name, "decisions")
        return await self._done(request, self._operations.roll_back(number_of(id), by=_who()))

    async def Restore(self, request: api.RestoreRequest, context: Context) -> pb.Mesh:
        self._subject.named(request.name, "")
        return await self._done(request, self._operations.restore(by=_who()))

    async def finish(self) -> None:
        """Waits for what was begun."""
        await asyncio.gather(*self._begun, return_exceptions=True)

    def _route(self, name: str) -> str:
        return self._subject.known(*self._subject.named(name, "routes"))

    def _pending(self, name: str) -> int:
        _, id = self._subject.named(name, "decisions")
        return 0 if id == "pending" else number_of(id)

    async def _done(self, request: Message, work: Coroutine[Any, Any, None]) -> pb.Mesh:
        await self._whole(request, work)
        return await self._subject.mesh()

    async def _whole(self, request: Message, work: Coroutine[Any, Any, T]) -> T:
        """Who asked may have gone when the deadline is over; what was begun is then not left
        journaled and not in effect."""
        task = asyncio.create_task(self._audited(request, work))
        self._begun.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def _audited(self, request: Message, work: Coroutine[Any, Any, T]) -> T:
        """What is refused for the state of the mesh is on record, too."""
        try:
            return await work
        except (StateError, NotFoundError) as error:
            action = request.DESCRIPTOR.name.removesuffix("Request")
            detail = MessageToDict(request, preserving_proto_field_name=True)
            now = self._subject.loop.clock()
            entry = AuditEntry(now, _who(), action, detail, outcome=str(error))
            try:
                await asyncio.to_thread(self._subject.journal.record_audit, entry)
            except JournalWriteError as full:
                log.error("a refusal is not on record: %s", full)
            raise

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits is told; nobody else has to be


def _who() -> str:
    return CALLER.get().who


def _words(field: str, text: str) -> str:
    """One line that people may read on a terminal. Raises MeshError."""
    text = text.strip()
    if len(text) > MOST_WORDS:
        remedy = f"use at most {MOST_WORDS} characters"
        raise MeshError(field, f"{len(text)} characters", remedy)
    if not text.isprintable():
        raise MeshError(field, text, "write one line of text")
    return text
