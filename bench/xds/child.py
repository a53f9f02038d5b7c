"""Processes of the bench, steered by lines of JSON over their pipes.

Each child is asked one thing at a time: {"do": name, "with": arguments} on its stdin, and
{"ok": answer} or {"error": text} on its stdout. Every wait has an end.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import select
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eigenmesh.demo.processes import ChildProcess

ROOT = Path(__file__).parents[2]
ANSWER_TIMEOUT = 120.0
"""Seconds. Parsing the largest route table takes the longest."""

Command = Callable[..., Awaitable[Any]]


class ChildError(RuntimeError):
    """A child did not answer, or answered with an error."""


class Child:
    """One process; `with` starts it and ends it by its pid."""

    def __init__(self, module: str, *arguments: str) -> None:
        argv = [sys.executable, "-m", f"bench.xds.{module}", *arguments]
        self._process = ChildProcess(module, argv, cwd=ROOT, pipes=True)
        self._buffer = b""

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.stop(grace=2.0)

    def call(self, do: str, **arguments: Any) -> Any:
        """Raises ChildError."""
        self.ask(do, **arguments)
        return self.answer()

    def ask(self, do: str, **arguments: Any) -> None:
        """The first half of `call`: several children can work at once."""
        self._process.stdin.write(json.dumps({"do": do, "with": arguments}).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """The second half of `call`. Raises ChildError."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise self._broken(f"no answer within {ANSWER_TIMEOUT:g} s")
            data = os.read(pipe, 1 << 16)
            if not data:
                raise self._broken("it ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply = json.loads(line)
        if "error" in reply:
            raise self._broken(reply["error"])
        return reply["ok"]

    def _broken(self, what: str) -> ChildError:
        return ChildError(f"{self._process.name}: {what}\n{self._process.log_tail()}")


async def obey(commands: Mapping[str, Command]) -> None:
    """The child's side: does what the parent asks until its stdin ends."""
    known = {**commands, "usage": usage}
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        request = json.loads(line)
        try:
            reply = {"ok": await known[request["do"]](**request["with"])}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


async def usage() -> dict[str, float]:
    """rss: resident bytes. cpu: seconds of all threads since the start."""
    return {"rss": _resident(), "cpu": time.process_time()}


def _resident() -> float:
    line = Path("/proc/self/smaps_rollup").read_text().splitlines()[1]
    return 1024.0 * int(line.split()[1])


def allow_connections() -> None:
    """One socket per stream, on either side: take what the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
