"""`ctl watch`: the mesh live on a terminal, or a line for each decision."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import grpc
from rich.live import Live

from eigenmesh.cli.ctl.errors import NO_NEWS, ExitStatus, complain, fail
from eigenmesh.cli.ctl.output import Format, console, dump, printable
from eigenmesh.cli.ctl.session import Session
from eigenmesh.cli.ctl.views import words
from eigenmesh.cli.ctl.views.live import Watched, live_view

_LISTED = 50
"""Decisions on the screen, if it is that tall."""
_REPAINT = 0.5
_RETRY = 1.0
"""Seconds."""


def watch_mesh(session: Session) -> None:
    """Until q or Ctrl-C. On a terminal an Eigenmesh that goes away is waited for; in a pipe that
    ends it, with the status of one that cannot be reached."""
    try:
        if session.output is Format.TABLE and sys.stdout.isatty():
            asyncio.run(_live(session))
        else:
            asyncio.run(_lines(session))
    except grpc.aio.AioRpcError as error:
        complain(error, session.address)
    except KeyboardInterrupt:
        pass


async def _lines(session: Session) -> None:
    async with session.client() as client:
        async for decision in client.watch_decisions():
            if session.output is Format.TABLE:
                one = printable(decision)
                why = " ".join(one.why.split())
                time, action = words.moment(one.time), words.action(one.action)
                line = f"{one.number}  {time}  {action}  {why}\n"
            else:
                line = dump(decision, session.output, line=True)
            sys.stdout.write(line)
            sys.stdout.flush()
    fail(f"{session.address}: Eigenmesh has stopped", ExitStatus.UNREACHABLE)


async def _live(session: Session) -> None:
    seen, changed = Watched(), asyncio.Event()
    following = asyncio.create_task(_follow(session, seen, changed))
    following.add_done_callback(lambda _: changed.set())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, following.cancel)
    # A mistake is told where it was made: the screen is taken when there is something to show.
    await changed.wait()
    if not following.done():
        with (
            _keys(following.cancel),
            Live(console=console(), screen=True, auto_refresh=False) as live,
        ):
            while not following.done():
                view = live_view(seen, time.time(), live.console.height)
                live.update(view, refresh=True)
                changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _REPAINT)
    with suppress(asyncio.CancelledError):
        await following


async def _follow(session: Session, seen: Watched, changed: asyncio.Event) -> None:
    """Raises AioRpcError if nothing was ever heard, or nothing may be."""
    while True:
        try:
            async with session.client() as client:
                async for mesh in client.watch_mesh():
                    listed = client.list_decisions(most=_LISTED)
                    seen.decisions = [printable(one) async for one in listed]
                    seen.mesh, seen.at, seen.trouble = printable(mesh), time.time(), ""
                    changed.set()
            seen.trouble = "Eigenmesh has stopped"
        except grpc.aio.AioRpcError as error:
            if not seen.at or error.code() not in NO_NEWS:
                raise
            seen.trouble = " ".join((error.details() or error.code().name).split())
        changed.set()
        await asyncio.sleep(_RETRY)


@contextmanager
def _keys(end: Callable[[], object]) -> Iterator[None]:
    """q ends it, without Enter and without being seen."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    terminal, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(terminal)

    def pressed() -> None:
        typed = os.read(terminal, 64)
        if not typed or b"q" in typed.lower():
            end()

    tty.setcbreak(terminal)
    loop.add_reader(terminal, pressed)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
