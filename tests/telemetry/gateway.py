"""What stands before a store in a company: a proxy that lets in who may, and has its bad days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from eigenmesh.demo.processes import free_port


@dataclass
class Gateway:
    """required: headers without which a request is answered 401. trouble: asked before a request
    is passed on, by its number from 0: another status to answer with, None for none. delay:
    seconds before anything is answered. change: what becomes of the store's answer.

    asked: how many requests came.
    """

    store: str
    required: Mapping[str, str] = field(default_factory=dict)
    trouble: Callable[[int], int | None] = lambda number: None
    delay: float = 0.0
    change: Callable[[bytes], bytes] = lambda body: body
    asked: int = 0
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        async with aiohttp.ClientSession() as self._client:
            app = web.Application()
            app.router.add_post("/{path:.*}", self._pass_on)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.Response:
        number, self.asked = self.asked, self.asked + 1
        await asyncio.sleep(self.delay)
        if any(request.headers.get(name) != value for name, value in self.required.items()):
            return web.Response(status=401, text="who are you?")
        if (status := self.trouble(number)) is not None:
            return web.Response(status=status, headers={"Location": "/elsewhere"})
        async with self._client.post(
            self.store + request.path,
            data=await request.read(),
            headers={"Content-Type": request.content_type},
        ) as answer:
            return web.Response(
                status=answer.status,
                body=self.change(await answer.read()),
                content_type="application/json",
            )
