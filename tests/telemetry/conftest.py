"""One bed for all that read Prometheus: it takes five seconds to find its targets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from eigenmesh.demo.processes import PrometheusProcess, free_port

from .bed import run
from .scraped import INTERVAL, Scraped, serve_page, until


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def scraped() -> AsyncIterator[Scraped]:
    page = f"127.0.0.1:{free_port()}"
    pages = await asyncio.start_server(serve_page, "127.0.0.1", int(page.rpartition(":")[2]))
    async with run() as bed:
        targets = [f"127.0.0.1:{bed.envoy.admin_port}", page]
        async with PrometheusProcess(targets, free_port(), interval=INTERVAL) as server:
            both = Scraped(bed, server, page)
            source = both.source()
            await until(source, lambda o: o.complete)
            await source.close()
            yield both
    pages.close()
