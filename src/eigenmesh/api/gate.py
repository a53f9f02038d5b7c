"""What every call passes: who asks, whether it may, whether it is still waited for; and how what
goes wrong is answered. The servicers behind it raise the errors of the domain and know no gRPC.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from eigenmesh.api.auth import Access, Caller, UnknownCallerError
from eigenmesh.api.errors import DeniedError, LateError, abort, status_of
from eigenmesh.control.api_settings import Role
from eigenmesh.mesh import MeshError

log = logging.getLogger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

CALLER: ContextVar[Caller] = ContextVar("CALLER")
"""Of the call that is being served."""


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # it takes none
    """roles: service -> what its callers need; the others (health, reflection) are open to all and
    tell nothing of the mesh. count: called with the method and the code of every call."""

    def __init__(
        self, access: Access, roles: Mapping[str, Role], count: Callable[[str, str], None]
    ) -> None:
        self._access = access
        self._roles = roles
        self._count = count

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler: Any = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.strip("/").rpartition("/")
        role = self._roles.get(service)
        if handler is None or role is None:
            return handler  # type: ignore[no-any-return]
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(handler, method, role), None, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(handler, method, role), None, handler.response_serializer
        )

    def _unary(self, handler: Any, method: str, role: Role) -> Any:
        async def call(raw: bytes, context: Context) -> Any:
            request = None
            try:
                self._admit(context, role)
                request = _parse(handler, raw)
                answer = await handler.unary_unary(request, context)
            except asyncio.CancelledError:
                self._count(method, "CANCELLED")
                raise
            except Exception as error:
                await self._refuse(context, method, error, request)
            self._count(method, "OK")
            return answer

        return call

    def _stream(self, handler: Any, method: str, role: Role) -> Any:
        async def call(raw: bytes, context: Context) -> AsyncIterator[Any]:
            request = None
            try:
                self._admit(context, role)
                request = _parse(handler, raw)
                async for message in handler.unary_stream(request, context):
                    yield message
            except (asyncio.CancelledError, GeneratorExit):
                self._count(method, "CANCELLED")
                raise
            except Exception as error:
                await self._refuse(context, method, error, request)
            self._count(method, "OK")

        return call

    def _admit(self, context: Context, role: Role) -> None:
        """Raises UnknownCallerError, DeniedError or LateError."""
        shown = [
            value if isinstance(value, str) else value.decode(errors="replace")
            for key, value in context.invocation_metadata() or ()
            if key == "authorization"
        ]
        caller = self._access.caller(shown, _certified(context))
        if not caller.role.covers(role):
            raise DeniedError(f"{caller.who} may {caller.role}; this call needs the role {role}")
        if context.time_remaining() == 0:
            raise LateError("the deadline was over before the call began; nothing was done")
        CALLER.set(caller)

    async def _refuse(
        self, context: Context, method: str, error: Exception, request: Any
    ) -> NoReturn:
        subject = getattr(request, "name", "") or getattr(request, "parent", "")
        code, status = status_of(error, subject)
        self._count(method, code.name)
        if code is grpc.StatusCode.INTERNAL:
            log.error("API call %s failed", method, exc_info=error)
        elif isinstance(error, UnknownCallerError | DeniedError):
            log.warning("API call %s of %s refused: %s", method, context.peer(), error)
        await abort(context, code, status)


def _parse(handler: Any, raw: bytes) -> Any:
    try:
        return handler.request_deserializer(raw)
    except DecodeError:
        raise MeshError("request", f"{len(raw)} bytes", "send the message of the proto") from None


def _certified(context: Context) -> tuple[str, ...]:
    """DNS and URI names in the client's certificate."""
    found = context.auth_context() or {}
    return tuple(
        name.decode(errors="replace")
        for key in ("peer_dns", "peer_uri")
        for name in found.get(key, ())
    )
