"""What becomes of a call that failed: lines that say what to do, and an exit status."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NoReturn

import grpc
import typer
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from eigenmesh.cli.ctl.output import harmless


class ExitStatus(IntEnum):
    REFUSED = 1
    USAGE = 2
    """Typer's own."""
    UNREACHABLE = 3
    NOT_ALLOWED = 4


_CODE = grpc.StatusCode
NO_NEWS = {_CODE.UNAVAILABLE, _CODE.DEADLINE_EXCEEDED, _CODE.CANCELLED}
"""What a server that stops or starts answers."""
_STATUS = {
    _CODE.DEADLINE_EXCEEDED: ExitStatus.UNREACHABLE,
    _CODE.CANCELLED: ExitStatus.UNREACHABLE,
    _CODE.UNIMPLEMENTED: ExitStatus.UNREACHABLE,
    _CODE.UNAUTHENTICATED: ExitStatus.NOT_ALLOWED,
    _CODE.PERMISSION_DENIED: ExitStatus.NOT_ALLOWED,
}
_REMEDIES = {
    _CODE.UNAVAILABLE: "is `eigenmesh run` up, and is --address its api.listen?",
    _CODE.DEADLINE_EXCEEDED: "raise --timeout, or look at the log of `eigenmesh run`",
    _CODE.UNIMPLEMENTED: "is another version of Eigenmesh, or something else, at --address?",
    _CODE.UNAUTHENTICATED: "name a token with --token-file, or a certificate with --cert and --key",
    _CODE.PERMISSION_DENIED: "use a token or certificate whose role is write",
}


def complain(error: grpc.aio.AioRpcError, address: str) -> NoReturn:
    """Says on standard error what failed, and exits."""
    code, status = error.code(), _details(error)
    if code is _CODE.UNAVAILABLE and status is None:
        # Nobody answered: what answers says more.
        outcome = ExitStatus.UNREACHABLE
    else:
        outcome = _STATUS.get(code, ExitStatus.REFUSED)
    lines = list(_violations(status)) if status else []
    if not lines:
        remedy = _REMEDIES.get(code, "") if outcome is not ExitStatus.REFUSED else ""
        where = f"{address}: " if outcome is ExitStatus.UNREACHABLE else ""
        said = " ".join((error.details() or code.name).split())
        lines = [f"{where}{said}" + (f"; {remedy}" if remedy else "")]
    fail("\n".join(lines), outcome)


def fail(message: str, status: ExitStatus) -> NoReturn:
    """A line on standard error for each of the message's."""
    for line in message.splitlines():
        typer.echo(f"eigenmesh: {harmless(' '.join(line.split()))}", err=True)
    raise typer.Exit(status)


def _details(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(error)  # type: ignore[arg-type]  # it has all that is read
    except ValueError:
        return None


def _violations(status: status_pb2.Status) -> Iterator[str]:
    """`field: value and remedy`, a line each."""
    for detail in status.details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            yield from (f"{one.field}: {one.description}" for one in bad.field_violations)
