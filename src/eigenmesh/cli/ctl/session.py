"""What every command of `ctl` has: where the API is, who asks, and how the answer is shown."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Concatenate,
    ParamSpec,
    TypeVar,
    get_type_hints,
)

import typer

from eigenmesh.cli.ctl.output import Format

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import RenderableType

    from eigenmesh.api.client import MeshClient

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound="Message")

DEFAULT_API = "127.0.0.1:18001"
_CONNECTION = "Connection"
_FILE = {"exists": True, "dir_okay": False, "readable": True, "rich_help_panel": _CONNECTION}

ctl = typer.Typer(
    no_args_is_help=True,
    help="Looks at a running Eigenmesh and steers it, through its API.\n\n"
    "Exit status: 0 done; 1 refused, the message says which field and what to do; 2 not a command;"
    " 3 no Eigenmesh was reached; 4 not allowed.\n\n"
    "Example: `eigenmesh ctl status`, `eigenmesh ctl watch`",
)


@dataclass(frozen=True)
class Session:
    """The options that every command has. timeout: seconds for each call."""

    address: Annotated[
        str,
        typer.Option(
            "--address",
            "-a",
            envvar="EIGENMESH_ADDRESS",
            help="The API of Eigenmesh (`api.listen`), host:port.",
            rich_help_panel=_CONNECTION,
        ),
    ] = DEFAULT_API
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", envvar="EIGENMESH_TOKEN_FILE", help="File with the token.", **_FILE
        ),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca", envvar="EIGENMESH_CA", help="Who signed the API's certificate (PEM).", **_FILE
        ),
    ] = None
    cert: Annotated[
        Path | None,
        typer.Option("--cert", envvar="EIGENMESH_CERT", help="Your certificate (PEM).", **_FILE),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option("--key", envvar="EIGENMESH_KEY", help="Its private key (PEM).", **_FILE),
    ] = None
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", min=0.01, help="Seconds for an answer.", rich_help_panel=_CONNECTION
        ),
    ] = 10.0
    output: Annotated[
        Format, typer.Option("--output", "-o", help="Tables for people, the rest for programs.")
    ] = Format.TABLE

    def __post_init__(self) -> None:
        # What fails is told by the call's status; gRPC's own log would write over the picture. It
        # is read when gRPC is imported, which is later.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    def client(self) -> MeshClient:
        """To be used within an event loop. Raises typer.BadParameter."""
        from eigenmesh.api.client import ClientTls, MeshClient

        if (self.cert is None) != (self.key is None):
            raise typer.BadParameter("--cert and --key go together")
        secure = self.ca or self.cert
        try:
            token = self.token_file.read_text("utf-8").strip() if self.token_file else None
            return MeshClient(
                self.address,
                timeout=self.timeout,
                token=token,
                tls=ClientTls(self.ca, self.cert, self.key) if secure else None,
            )
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"credentials cannot be read: {error}") from None

    def call(self, ask: Callable[[MeshClient], Awaitable[T]]) -> T:
        """Ends the process with a message and its exit status if the call fails."""
        import grpc

        from eigenmesh.cli.ctl.errors import complain

        async def run() -> T:
            async with self.client() as client:
                return await ask(client)

        try:
            return asyncio.run(run())
        except grpc.aio.AioRpcError as error:
            complain(error, self.address)

    def list(self, items: Callable[[MeshClient], AsyncIterator[T]]) -> list[T]:
        """All of them; ends the process like `call`."""

        async def ask(client: MeshClient) -> list[T]:
            return [item async for item in items(client)]

        return self.call(ask)

    def show(self, message: M, view: Callable[[M], Iterable[RenderableType]]) -> None:
        from eigenmesh.cli.ctl.output import dump, printable, show

        if self.output is Format.TABLE:
            show(*view(printable(message)))
        else:
            typer.echo(dump(message, self.output), nl=False)


def command(
    panel: str, *, name: str | None = None
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Makes a command of a function of a session and of what it alone has to know."""

    def register(
        function: Callable[Concatenate[Session, P], None],
    ) -> Callable[Concatenate[Session, P], None]:
        shared = [field.name for field in fields(Session)]

        def run(**given: Any) -> None:
            session = Session(**{name: given.pop(name) for name in shared})
            function(session, **given)  # type: ignore[call-arg]

        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        kinds = get_type_hints(Session, include_extras=True)
        common = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=kinds[field.name],
            )
            for field in fields(Session)
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + common
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        ctl.command(name, rich_help_panel=panel)(run)
        return function

    return register
