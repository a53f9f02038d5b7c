"""`eigenmesh run`: the sidecar with its API and HTTP endpoints, until a signal.

SIGINT and SIGTERM end it, SIGHUP has it read its settings anew.
"""

from __future__ import annotations

import asyncio
import signal

import structlog

from eigenmesh.api.server import ApiServer
from eigenmesh.api.subject import Subject
from eigenmesh.control.reload import Reloader
from eigenmesh.control.settings import Settings
from eigenmesh.control.sidecar import Sidecar
from eigenmesh.web import HttpServer, Page

log = structlog.get_logger(__name__)


async def serve(settings: Settings) -> None:
    """Raises OSError or RuntimeError when an address is taken, JournalError on a bad journal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    sidecar = Sidecar(settings)
    model = settings.model
    subject = Subject(
        id=model.mesh,
        loop=sidecar.loop,
        operations=sidecar.operations,
        journal=sidecar.journal,
        proxies=sidecar.proxies,
        nodes=sidecar.xds.nodes,
        connected=lambda: sidecar.xds.connected_nodes,
    )
    api = ApiServer(model.api, subject, sidecar.metrics.called)
    page = Page(model.api, model.http.listen, subject, sidecar.metrics.called)
    web = HttpServer(model.http.listen, sidecar.metrics.registry, sidecar.not_ready, page)
    reloader = Reloader(settings, sidecar.apply, sidecar.metrics)
    loop.add_signal_handler(signal.SIGHUP, reloader.ask)
    reloading: asyncio.Task[None] | None = None
    try:
        await web.start()
        await api.start()
        await sidecar.start()
        reloading = asyncio.create_task(reloader.run(), name="reload")
        log.info("ready", api=api.port, http=web.port)
        await stop.wait()
    finally:
        if reloading is not None:
            reloading.cancel()
        await api.stop()
        await sidecar.stop()
        await web.stop()
