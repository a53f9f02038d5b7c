"""Reads a Prometheus server that scrapes the Envoys.

One query a tick, whatever the number of clusters: an instant query with a range selector returns
the raw samples of every series. They go through the same arithmetic as a direct scrape. `rate()`
and `histogram_quantile()` on the server would need a query for each quantity, extrapolate to
the window's edges, hide a restart, and give consecutive ticks overlapping windows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from eigenmesh.mesh import Observation, Topology
from eigenmesh.telemetry.catalogue import HISTOGRAM, SERVER, TOTAL, UPTIME, Catalogue, Slot
from eigenmesh.telemetry.series import Reading, Span, nothing, observe, span

_MODEL_LABELS = frozenset(
    {
        "__name__",
        "le",
        "envoy_cluster_name",
        "envoy_virtual_host",
        "envoy_route",
        "envoy_response_code",
        "envoy_response_code_class",
    }
)

Samples = dict[Slot, dict[float, float]]
"""slot -> time of the scrape -> value"""


@dataclass
class _Proxy:
    """What is remembered of one scrape target."""

    newest: float
    last: Reading | None = None


class PrometheusSource:
    """url: such as http://127.0.0.1:9090. routes: steered route -> (virtual host, stat_prefix).

    window: seconds looked back for samples, best four scrape intervals; widened when it holds too
    few. timeout: seconds for the answer. selector: label matchers of this mesh's series, for
    example job="envoy". max_age: seconds; older samples are no data. stat_names: cluster -> its
    `alt_stat_name`. histogram_lag: by how many scrapes Envoy's histograms are behind its counters:
    one, when the scrape itself makes Envoy flush (`stats_flush_on_admin`), since it answers first.
    """

    def __init__(
        self,
        url: str,
        topology: Topology,
        routes: Mapping[str, tuple[str, str]],
        *,
        window: float = 6.0,
        timeout: float = 1.0,
        selector: str = "",
        max_age: float = 15.0,
        stat_names: Mapping[str, str] | None = None,
        histogram_lag: int = 1,
    ) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._catalogue = Catalogue(topology, routes, stat_names)
        self._window = window
        self._timeout = timeout
        self._max_age = max_age
        self._lag = histogram_lag
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[str, _Proxy] = {}
        self._matchers = self._catalogue.matchers(selector.strip().strip("{}").strip(", "))

    @property
    def query(self) -> str:
        """The PromQL of the next tick."""
        return f"{{{self._matchers}}}[{round(self._window * 1000)}ms]"

    async def observe(self, now: float) -> Observation:
        """From where the tick before ended (at first: the window's first scrape) to the newest."""
        try:
            async with asyncio.timeout(self._timeout):
                status, body = await self._ask(now)
            # In a thread: with many clusters it takes longer than the event loop can be spared.
            return await asyncio.to_thread(self._compare, now, self.query, status, body)
        except TimeoutError:
            return self._nothing(now, f"no answer within {self._timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return self._nothing(now, f"cannot be read: {error}")

    def _compare(self, now: float, query: str, status: int, body: bytes) -> Observation:
        try:
            found = self._samples(status, body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self._nothing(now, f"its answer cannot be read: {error}")
        spans: dict[str, Span] = {}
        troubles: dict[str, str] = {}
        for proxy, samples in found.items():
            result = self._span(proxy, samples, now)
            if isinstance(result, str):
                troubles[proxy] = result
            else:
                spans[proxy] = result
        for proxy in self._proxies.keys() - found.keys():
            troubles[proxy] = self._age(proxy, now)
        if spans:
            # Others carry the traffic of a proxy that has been silent for so long.
            for proxy in troubles.keys() & self._proxies.keys():
                if now - self._proxies[proxy].newest > self._max_age:
                    del troubles[proxy], self._proxies[proxy]
        elif not troubles:
            return self._nothing(now, f"no samples in the last {self._window:g} s")
        ends = [p.last.time for p in self._proxies.values() if p.last is not None]
        end = max(ends) if spans and ends else now
        return observe(end, spans, self._catalogue, troubles=troubles, queries=(query,))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _nothing(self, now: float, why: str) -> Observation:
        return nothing(now, f"Prometheus: {why}", self._catalogue, queries=(self.query,))

    async def _ask(self, now: float) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        form = {"query": self.query, "time": f"{now:.3f}"}
        async with self._session.post(self._url, data=form) as response:
            return response.status, await response.read()

    def _samples(self, status: int, body: bytes) -> dict[str, Samples]:
        """Of each scrape target. Raises ValueError for an answer that is not one."""
        try:
            answer = json.loads(body)
        except ValueError:
            raise ValueError(f"status {status}, and not JSON") from None
        if answer["status"] != "success":
            raise ValueError(f"{answer.get('errorType')}: {answer.get('error')}")
        if answer.get("warnings"):
            raise ValueError(f"it is partial: {answer['warnings'][0]}")
        found: dict[str, Samples] = {}
        for series in answer["data"]["result"]:
            labels = series["metric"]
            slot = self._catalogue.slot(labels["__name__"], labels)
            if slot is None:
                continue
            times = found.setdefault(_proxy(labels), {}).setdefault(slot, {})
            for time, value in series["values"]:
                times[time] = times.get(time, 0.0) + float(value)
        return found

    def _span(self, name: str, samples: Samples, now: float) -> Span | str:
        """What one proxy did since the tick before, or why that is not known."""
        times = sorted({t for slot, one in samples.items() if slot.stat == TOTAL for t in one})
        if not times:
            return f"no {TOTAL} in the last {self._window:g} s"
        proxy = self._proxies.setdefault(name, _Proxy(times[-1]))
        proxy.newest = times[-1]
        if now - times[-1] > self._max_age:
            return self._age(name, now)
        usable = times[: len(times) - self._lag]
        before = proxy.last
        if before is not None and usable and usable[-1] - before.time > self._max_age:
            before = None
        fresh = [t for t in usable if before is None or t > before.time]
        if before is not None and not fresh:
            if not usable:
                return self._too_few(len(times))
            return f"no new scrape; the newest is {now - times[-1]:.1f} s old"
        if before is None and len(usable) < 2:
            return self._too_few(len(times))
        after = self._reading(samples, times, usable[-1])
        if before is None:
            before = self._reading(samples, times, usable[0])
        proxy.last = after
        uptimes = [samples.get(Slot(SERVER, UPTIME), {}).get(t) for t in fresh]
        known = [u for u in (before.uptime, *uptimes) if u is not None]
        if known != sorted(known):
            return "Envoy was restarted"
        return span(before, after)

    def _age(self, proxy: str, now: float) -> str:
        return f"newest sample is {now - self._proxies[proxy].newest:.0f} s old"

    def _too_few(self, count: int) -> str:
        """The scrape interval is longer than was thought: look further back next time."""
        why = f"{count} scrapes in the last {self._window:g} s, {2 + self._lag} are needed"
        self._window = min(2.0 * self._window, max(self._window, 4.0 * self._max_age))
        return why

    def _reading(self, samples: Samples, times: list[float], time: float) -> Reading:
        """As of the scrape at `time`; histograms from the scrape that tells of that moment."""
        reading = Reading(time)
        later = times[times.index(time) + self._lag]
        for slot, one in samples.items():
            at = later if slot.stat in HISTOGRAM else time
            if at in one:
                reading.put(slot, one[at])
        return reading


def _proxy(labels: Mapping[str, Any]) -> str:
    """A scrape target's name: its instance, and whatever else tells it from others."""
    others = {k: v for k, v in labels.items() if k not in _MODEL_LABELS and k != "instance"}
    tail = ",".join(f"{k}={v}" for k, v in sorted(others.items()))
    return f"{labels.get('instance', 'proxy')}{{{tail}}}" if tail else str(labels.get("instance"))
