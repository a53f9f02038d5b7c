"""A real Prometheus that scrapes the bed's Envoy, and what reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eigenmesh.demo.processes import PrometheusProcess
from eigenmesh.mesh import Observation
from eigenmesh.telemetry.prometheus import PrometheusSource
from eigenmesh.telemetry.source import Source

from .bed import ROUTES, TOPOLOGY, Bed

INTERVAL = 0.3


PAGE = "".join(
    f'envoy_cluster{dot}_upstream_rq_total{{envoy_cluster_name="{name}"}} {value}\n'
    for dot, name, value in (("", "a", "NaN"), ("_svc", "b", "5"))
)
"""What a second scrape target answers: a counter that is not a number."""


async def serve_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(PAGE)}\r\n"
    writer.write((head + "connection: close\r\n\r\n" + PAGE).encode())
    await writer.drain()
    writer.close()


@dataclass
class Scraped:
    """page: the scrape target with PAGE."""

    bed: Bed
    server: PrometheusProcess
    page: str

    def source(self, *urls: str, **more: Any) -> PrometheusSource:
        """Of the Envoy alone, unless another selector is given; from Prometheus, unless another
        server is."""
        envoy = f'instance="127.0.0.1:{self.bed.envoy.admin_port}"'
        settings = {"window": 3.0, "timeout": 3.0, "selector": envoy, **more}
        return PrometheusSource(urls or [self.server.url], TOPOLOGY, ROUTES, **settings)


async def until(
    source: Source, wanted: Callable[[Observation], bool], seconds: float = 20.0
) -> Observation:
    """The first observation that is as wanted."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await source.observe(time.time())
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, seen.missing
        await asyncio.sleep(INTERVAL)
