"""What goes wrong, as gRPC says it: a code, a sentence, and google.rpc details for programs.

See https://google.aip.dev/193. Details travel in a header, of which clients take 8 kB: what was
sent is repeated in part only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from eigenmesh.api.auth import UnknownCallerError
from eigenmesh.control.journal import JournalError, JournalWriteError
from eigenmesh.control.operations import NotFoundError, StateError
from eigenmesh.mesh import MeshError
from eigenmesh.optimize.worker import SolverError

DOMAIN = "eigenmesh"
"""Of the reasons in google.rpc.ErrorInfo."""

_DETAILS = "grpc-status-details-bin"

_MOST = 300
"""Characters of a field, a value or a sentence that are repeated."""


class DeniedError(Exception):
    """The caller is known and may not do it."""


class LateError(Exception):
    """The deadline was over before the call began."""


def status_of(error: Exception, subject: str = "") -> tuple[grpc.StatusCode, Status]:
    """The code and the whole status; INTERNAL for what should not have happened. subject: the name
    of the resource that was asked for."""
    subject = shorten(subject)
    text = str(error)
    code: grpc.StatusCode
    detail: Message | None
    match error:
        case JournalWriteError() | SolverError():
            code = grpc.StatusCode.UNAVAILABLE
            detail = details.RetryInfo(retry_delay=Duration(seconds=1))
        case MeshError():
            code = grpc.StatusCode.INVALID_ARGUMENT
            what = f"{shorten(repr(error.value))}: {error.remedy}"
            text = f"{shorten(error.field)}: {what}"
            bad = details.BadRequest.FieldViolation(
                field=shorten(error.field), description=shorten(what, 2 * _MOST)
            )
            detail = details.BadRequest(field_violations=[bad])
        case StateError():
            code = grpc.StatusCode.FAILED_PRECONDITION
            failed = details.PreconditionFailure.Violation(
                type="STATE", subject=subject, description=shorten(text)
            )
            detail = details.PreconditionFailure(violations=[failed])
        case NotFoundError():
            code = grpc.StatusCode.NOT_FOUND
            detail = details.ResourceInfo(resource_name=subject, description=shorten(text))
        case JournalError():
            code, detail = grpc.StatusCode.DATA_LOSS, None
        case UnknownCallerError():
            code = grpc.StatusCode.UNAUTHENTICATED
            detail = details.ErrorInfo(reason=error.reason, domain=DOMAIN)
        case DeniedError():
            code = grpc.StatusCode.PERMISSION_DENIED
            detail = details.ErrorInfo(reason="ROLE_MISSING", domain=DOMAIN)
        case LateError():
            code, detail = grpc.StatusCode.DEADLINE_EXCEEDED, None
        case _:
            code, detail = grpc.StatusCode.INTERNAL, None
            text = "a defect of Eigenmesh; its log says more"
    status = Status(code=code.value[0], message=shorten(text, 3 * _MOST))
    if detail is not None:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return code, status


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], code: grpc.StatusCode, status: Status
) -> NoReturn:
    """Ends the call."""
    trailing = ((_DETAILS, status.SerializeToString()),)
    await context.abort(code, status.message, trailing)
    raise AssertionError("unreachable")


def details_of(error: grpc.aio.AioRpcError) -> Sequence[Message]:
    """For clients: the google.rpc messages that came with an error, of the kinds named above."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is asked of it
    found: list[Message] = []
    for packed in status.details if status else ():
        kind = getattr(details, packed.TypeName().rpartition(".")[2], None)
        if kind is not None and packed.Is(kind.DESCRIPTOR):
            message = kind()
            packed.Unpack(message)
            found.append(message)
    return found


def shorten(text: str, most: int = _MOST) -> str:
    """So many characters of it, for what is repeated to people."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
