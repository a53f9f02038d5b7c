"""The gRPC API's unary calls as JSON over HTTP: the same servicers, checks, audit and errors.

`POST /api/call/METHOD` takes the request message and gives the response message, as
https://protobuf.dev/programming-guides/json has them, with the proto's own field names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from eigenmesh.api.auth import Caller
from eigenmesh.api.errors import status_of
from eigenmesh.api.gate import CALLER
from eigenmesh.api.read import Reads
from eigenmesh.api.subject import Subject
from eigenmesh.api.write import Writes
from eigenmesh.control.api_settings import Role
from eigenmesh.mesh import MeshError
from eigenmesh.v1 import mesh_service_pb2, operations_service_pb2

HTTP_STATUS: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNAVAILABLE: 503,
}
"""As google/rpc/code.proto has it; 500 for all else."""


@dataclass(frozen=True)
class Call:
    """role: what its callers need."""

    role: Role
    request: type[Message]
    serve: Callable[[Any, Any], Awaitable[Message]]

    async def run(self, caller: Caller, body: str) -> str:
        """JSON in and out. Raises what `errors.status_of` knows."""
        CALLER.set(caller)
        try:
            request = Parse(body or "{}", self.request())
        except ParseError as error:
            raise MeshError("request", body[:100], str(error)[:200]) from None
        answer = await self.serve(request, None)
        # Pure Python, and a decision over many clusters is long: not on the event loop.
        return await asyncio.to_thread(
            MessageToJson, answer, preserving_proto_field_name=True, indent=None
        )


class Calls:
    """By the names of their methods."""

    def __init__(self, subject: Subject) -> None:
        self._writes = Writes(subject)
        self._calls: dict[str, Call] = {}
        for file, servicer, role in (
            (mesh_service_pb2, Reads(subject), Role.READ),
            (operations_service_pb2, self._writes, Role.WRITE),
        ):
            for service in file.DESCRIPTOR.services_by_name.values():
                for method in service.methods:
                    if not method.server_streaming:
                        request = GetMessageClass(method.input_type)
                        serve = getattr(servicer, method.name)
                        self._calls[method.name] = Call(role, request, serve)

    def get(self, method: str) -> Call | None:
        return self._calls.get(method)

    async def finish(self) -> None:
        """Waits for the writes that have begun."""
        await self._writes.finish()


def failure(error: Exception) -> tuple[str, int, dict[str, object]]:
    """The code of gRPC, the HTTP status, and what to answer."""
    code, status = status_of(error)
    return code.name, HTTP_STATUS.get(code, 500), {"code": code.name, "message": status.message}
