"""The newest view of the mesh, made once for all who watch, when there is something new."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from functools import partial

import structlog

from eigenmesh.api.read import LOOK
from eigenmesh.api.subject import Subject
from eigenmesh.mesh import Decision
from eigenmesh.web.history import History
from eigenmesh.web.view import view

log = structlog.get_logger(__name__)


class Live:
    """`start` it once. `history` grows whether somebody watches or not."""

    def __init__(self, subject: Subject) -> None:
        self.history = History()
        self.closed = False
        self.watchers = 0
        self._subject = subject
        self._number = 0
        self._document = b""
        self._state: tuple[object, ...] | None = None
        self._latest: Decision | None = None
        self._plan = subject.loop.plan
        self._before = self._plan
        self._news = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="page")

    async def stop(self) -> None:
        """Whoever waits is let go."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.closed = True
        async with self._news:
            self._news.notify_all()

    def join(self) -> int:
        """One more watches. The number to give to `after` first: nobody is shown what is old."""
        self.watchers += 1
        if self.watchers > 1:
            return 0
        self._state = None
        return self._number

    def leave(self) -> None:
        self.watchers -= 1

    async def after(self, number: int, timeout: float) -> tuple[int, bytes] | None:
        """The newest view (JSON) and its number, once that is above `number`; None when it took
        longer, in seconds, or the page is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: self._number > number or self.closed)
                return None if self.closed else (self._number, self._document)
        return None

    async def _follow(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("the page shows nothing new")
            await asyncio.sleep(LOOK)

    async def _look(self) -> None:
        subject = self._subject
        loop, latest = subject.loop, subject.loop.latest
        if latest is not None and latest is not self._latest:
            self._latest, self._before, self._plan = latest, self._plan, loop.plan
            self.history.add(latest, loop.plan, subject.topology, loop.settings.objective.quantile)
        if not self.watchers or (state := subject.state()) == self._state:
            return
        # Not on the event loop: a mesh may have thousands of clusters.
        found = partial(view, subject, self._before, subject.connected())
        document = await asyncio.to_thread(lambda: json.dumps(found(), allow_nan=False))
        async with self._news:
            self._state, self._document = state, document.encode()
            self._number += 1
            self._news.notify_all()
