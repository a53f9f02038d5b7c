"""A registry as text, in turns: a thousand clusters' metrics must not hold up who serves xDS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from copy import copy

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

AT_ONCE = 500
"""Samples that are written before others get a turn."""
_END = b"# EOF\n"


class _One(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


async def expose(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Text and its content type: Prometheus' format, or OpenMetrics' to who accepts it."""
    encode, content_type = choose_encoder(accept)
    parts = []
    for family in registry.collect():
        for number, piece in enumerate(_pieces(family)):
            text = encode(_One(piece)).removesuffix(_END)
            parts.append(_without_head(text) if number else text)
            await asyncio.sleep(0)
    if content_type.startswith("application/openmetrics"):
        parts.append(_END)
    return b"".join(parts), content_type


def _pieces(family: Metric) -> Iterator[Metric]:
    # The other types are small, and some samples of theirs belong together.
    if family.type != "gauge" or len(family.samples) <= AT_ONCE:
        yield family
        return
    for start in range(0, len(family.samples), AT_ONCE):
        piece = copy(family)
        piece.samples = family.samples[start : start + AT_ONCE]
        yield piece


def _without_head(text: bytes) -> bytes:
    while text.startswith(b"# "):
        text = text.partition(b"\n")[2]
    return text
