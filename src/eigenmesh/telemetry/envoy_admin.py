"""Reads Envoy's own /stats/prometheus: no Prometheus needed, and the freshest data there is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import aiohttp
from yarl import URL

from eigenmesh.mesh import Observation, Topology
from eigenmesh.telemetry.aside import aside
from eigenmesh.telemetry.catalogue import COMPLETED, COUNT, ERRORS, Catalogue, Owner, Slot
from eigenmesh.telemetry.exposition import parse_series, samples
from eigenmesh.telemetry.series import Reading, Span, observe, span

_SERIES_KEPT = 500_000
_RETRIES = 2


class EnvoyAdminSource:
    """One or many Envoys; the observation is their sum.

    admin_urls: such as http://127.0.0.1:9901. routes: steered route -> (virtual host,
    stat_prefix). timeout: seconds for one proxy's answer. max_age: seconds; after a longer
    silence of a proxy counting starts over. stat_names: cluster -> `alt_stat_name`.
    """

    def __init__(
        self,
        admin_urls: Sequence[str],
        topology: Topology,
        routes: Mapping[str, tuple[str, str]],
        *,
        timeout: float = 1.0,
        max_age: float = 15.0,
        stat_names: Mapping[str, str] | None = None,
    ) -> None:
        self._urls = tuple(url.rstrip("/") for url in admin_urls)
        self._catalogue = Catalogue(topology, routes, stat_names)
        self._path = f"/stats/prometheus?filter={quote(self._catalogue.stats_filter, safe='')}"
        self._timeout = timeout
        self._max_age = max_age
        self._session: aiohttp.ClientSession | None = None
        self._last: dict[str, Reading] = {}
        self._slots: dict[str, Slot | None] = {}
        self._nodes: dict[str, str] = {}
        self._answered: dict[str, float] = {}

    async def observe(self, now: float) -> Observation:
        """The time between the scrape before and this one; the first only starts the count."""
        results = await asyncio.gather(*(self._scrape(url) for url in self._urls))
        # In a thread, like parsing: with a thousand clusters it takes longer than the loop can
        # be spared.
        return await aside(self._compare, now, results)

    def _compare(self, now: float, results: Sequence[Reading | str]) -> Observation:
        spans: dict[str, Span] = {}
        troubles: dict[str, str] = {}
        left_out: dict[str, str] = {}
        for url, result in zip(self._urls, results, strict=True):
            # A clock that was set back must not keep a proxy that is gone.
            answered = self._answered[url] = min(self._answered.get(url, now), now)
            if isinstance(result, str):
                # After so long a silence others carry its traffic.
                silent = now - answered > self._max_age
                (left_out if silent else troubles)[url] = result
                continue
            self._answered[url] = now
            before = self._last.get(url)
            self._last[url] = result
            if before is None or result.time - before.time > self._max_age:
                troubles[url] = "first scrape"
            else:
                spans[url] = span(before, result)
        queries = tuple(f"GET {url}{self._path}" for url in self._urls)
        if not spans:
            troubles, left_out = troubles | left_out, {}
        return observe(
            now,
            spans,
            self._catalogue,
            troubles=troubles,
            left_out=left_out,
            queries=queries,
            nodes={url: node for url, node in self._nodes.items() if node},
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _scrape(self, url: str) -> Reading | str:
        """A reading, or why there is none."""
        try:
            async with asyncio.timeout(self._timeout):
                # With `stats_flush_on_admin` a request starts the merge of the histograms but is
                # answered with what the request before it had merged: ask for nothing first.
                await self._get(f"{url}/stats/prometheus?filter=%5E%24")
                if url not in self._nodes:
                    await self._introduce(url)
                reading = await self._read(url)
                for _ in range(_RETRIES):
                    # On a busy machine with many workers the merge may still be under way.
                    if not self._lags(self._last.get(url), reading):
                        break
                    reading = await self._read(url)
                return reading
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except (aiohttp.ClientError, OSError) as error:
            # Whoever answers there next may be another.
            self._nodes.pop(url, None)
            return f"cannot be read: {error}"
        except ValueError as error:
            return f"its statistics cannot be read: {error}"

    async def _introduce(self, url: str) -> None:
        """Learns which node answers there. Without it shares of the traffic have no names."""
        try:
            node = json.loads(await self._get(f"{url}/server_info"))["node"]["id"]
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            return
        self._nodes[url] = str(node)

    async def _read(self, url: str) -> Reading:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        text = await self._get(url + self._path)
        time = 0.5 * (asked + loop.time())
        return await aside(self._parse, time, text)

    def _lags(self, before: Reading | None, after: Reading) -> bool:
        """Whether the histograms of `after` lack answers that its counters have."""
        if before is None:
            return False
        answered = timed = 0.0
        for name in self._catalogue.clusters:
            owner = Owner("cluster", name)
            for sign, stats in ((1.0, after.stats.get(owner)), (-1.0, before.stats.get(owner))):
                if stats is not None:
                    answered += sign * (stats.get(COMPLETED) - stats.get(ERRORS))
                    timed += sign * stats.get(COUNT)
        return timed < 0.95 * answered - 3.0

    async def _get(self, url: str) -> str:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        async with self._session.get(URL(url, encoded=True)) as response:
            if response.status != 200:
                raise aiohttp.ClientError(f"status {response.status}")
            return await response.text()

    def _parse(self, time: float, text: str) -> Reading:
        reading = Reading(time)
        slots = self._slots
        if len(slots) > _SERIES_KEPT:
            slots.clear()
        for series, value in samples(text):
            try:
                slot = slots[series]
            except KeyError:
                slot = slots[series] = self._catalogue.slot(*parse_series(series))
            if slot is not None:
                reading.put(slot, value)
        return reading
