"""/metrics, /healthz (the process runs), /readyz (xDS has something to serve), and the page."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry

from eigenmesh.web.exposition import expose
from eigenmesh.web.page import Page

MOST_BYTES = 64 * 1024
"""Of a request's body."""


class HttpServer:
    """`ready` returns why not, or None. Port 0 picks a free port; `port` tells which. page: None:
    none is served."""

    def __init__(
        self,
        listen: str,
        registry: CollectorRegistry,
        ready: Callable[[], str | None],
        page: Page | None = None,
    ) -> None:
        self._host, _, port = listen.rpartition(":")
        self.port = int(port)
        self._registry = registry
        self._ready = ready
        self._page = page
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        if page is not None:
            page.add_to(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> int:
        """Raises OSError when the address is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host.strip("[]"), self.port)
        await site.start()
        if self._page is not None:
            self._page.start()
        self.port = self._runner.addresses[0][1]
        return self.port

    async def stop(self) -> None:
        if self._page is not None:
            await self._page.stop()
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        text, content_type = await expose(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._ready()
        if reason is None:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"not ready: {reason}\n")
