"""A command on a terminal of its own, as a person has it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

WITHIN = 30.0
"""Seconds until a test gives up; nothing takes that long."""
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`text` is all that was written, codes included."""

    def __init__(self, *command: str, env: Mapping[str, str], columns: int, rows: int) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.text = ""
        # The first terminal that a session's leader opens is the one whose keys send signals.
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(slave), *command],
            env={**os.environ, "TERM": "xterm-256color", **env},
            start_new_session=True,
        )
        self._slave = slave

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, pattern: str) -> re.Match[str]:
        """Reads until the newest frame, without its codes, has the pattern."""
        deadline = time.monotonic() + WITHIN
        while not (found := re.search(pattern, self.frame)):
            ready, _, _ = select.select([self._master], [], [], 0.1)
            if ready:
                self.text += os.read(self._master, 65536).decode(errors="replace")
            elif self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} in:\n{self.frame}")
        return found

    @property
    def frame(self) -> str:
        """What is on the screen: what came after the cursor last went home."""
        return _CODES.sub("", self.text.rsplit("\x1b[H", 1)[-1]).replace("\r", "")

    def wait(self) -> int:
        """The exit status; reads the rest."""
        status = self.process.wait(WITHIN)
        while select.select([self._master], [], [], 0)[0]:
            self.text += os.read(self._master, 65536).decode(errors="replace")
        return status

    @property
    def echoes(self) -> bool:
        """Whether typed keys are shown, as they must be when a command is over."""
        flags: int = termios.tcgetattr(self._slave)[3]
        return bool(flags & termios.ECHO) and bool(flags & termios.ICANON)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)


@contextmanager
def terminal(
    *args: str, env: Mapping[str, str] | None = None, columns: int = 110, rows: int = 30
) -> Iterator[Terminal]:
    """`eigenmesh ARGS` on a terminal."""
    command = (sys.executable, "-m", "eigenmesh", *args)
    opened = Terminal(*command, env=env or {}, columns=columns, rows=rows)
    try:
        yield opened
    finally:
        opened.close()
