"""Reads a Prometheus server that scrapes the Envoys.

One query a tick, whatever the number of clusters: an instant query with a range selector returns
the raw samples of every series. They go through the same arithmetic as a direct scrape. `rate()`
and `histogram_quantile()` on the server would need a query for each quantity, extrapolate to
the window's edges, hide a restart, and give consecutive ticks overlapping windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eigenmesh.mesh import Observation, Topology
from eigenmesh.telemetry import promql
from eigenmesh.telemetry.access import OPEN, Access
from eigenmesh.telemetry.aside import aside, consume, empty
from eigenmesh.telemetry.catalogue import HISTOGRAM, SERVER, TOTAL, UPTIME, Catalogue, Slot
from eigenmesh.telemetry.matrix import read_answer
from eigenmesh.telemetry.prometheus_api import Answer, PrometheusApi, UnansweredError
from eigenmesh.telemetry.series import Reading, Span, nothing, observe, span

CLOCKS_APART = 5.0
"""Seconds between the server's clock and ours from which on the age of its samples is unknown."""

SAID = 300.0
"""Seconds for which a proxy that was given up is still spoken of."""

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
    """What is remembered of one scrape target. given_up: others carry its traffic now."""

    newest: float
    last: Reading | None = None
    given_up: bool = False


class PrometheusSource:
    """urls: such as http://127.0.0.1:9090; if there are several, with the same data and the same
    labels: the one that answers is kept to. routes: steered route -> (virtual host, stat_prefix).

    window: seconds looked back for samples, best four scrape intervals; widened when it holds too
    few. timeout: seconds for the answer, with all `retries`. access: see `Access`. query: see
    `promql`. selector: label matchers of this mesh's series, for example job="envoy".
    max_age: seconds; older samples are no data. stat_names: cluster -> its
    `alt_stat_name`. histogram_lag: by how many scrapes Envoy's histograms are behind its counters:
    one, when the scrape itself makes Envoy flush (`stats_flush_on_admin`), since it answers first.
    """

    def __init__(
        self,
        urls: Sequence[str],
        topology: Topology,
        routes: Mapping[str, tuple[str, str]],
        *,
        window: float = 6.0,
        timeout: float = 1.0,
        retries: int = 2,
        access: Access = OPEN,
        query: str = promql.DEFAULT,
        selector: str = "",
        max_age: float = 15.0,
        stat_names: Mapping[str, str] | None = None,
        histogram_lag: int = 1,
        node_label: str = "",
    ) -> None:
        self._api = PrometheusApi(urls, access, timeout=timeout, retries=retries)
        self._catalogue = Catalogue(topology, routes, stat_names)
        self._template = query
        self._window = window
        self._max_age = max_age
        self._lag = histogram_lag
        self._node_label = node_label
        self._nodes: dict[str, str] = {}
        self._proxies: dict[str, _Proxy] = {}
        self._too_short = False
        self._matchers = self._catalogue.matchers(selector.strip().strip("{}").strip(", "))

    @property
    def query(self) -> str:
        """The PromQL of the next tick."""
        return promql.resolve(self._template, self._matchers, self._window)

    async def observe(self, now: float) -> Observation:
        """From where the tick before ended (at first: the window's first scrape) to the newest."""
        query = self.query
        try:
            answer = await self._api.query(query, now)
        except UnansweredError as why:
            return self._nothing(now, query, str(why))
        # With many clusters it takes longer than the event loop can be spared.
        return await aside(self._compare, now, query, answer)

    def _compare(self, now: float, query: str, answer: Answer) -> Observation:
        if answer.date is not None and abs(ahead := answer.date - now) > CLOCKS_APART:
            self._api.pass_over()
            why = f"its clock is {ahead:+.0f} s from ours, samples have no age; set the clocks"
            return self._nothing(now, query, why, answer)
        try:
            found = self._samples(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._api.pass_over()
            return self._nothing(now, query, f"its answer cannot be read: {error}", answer)
        spans: dict[str, Span] = {}
        troubles: dict[str, str] = {}
        for proxy, samples in found.items():
            result = self._span(proxy, samples, now)
            if isinstance(result, str):
                troubles[proxy] = result
            else:
                spans[proxy] = result
                self._proxies[proxy].given_up = False
            empty(samples)
        if self._too_short and not spans:
            # The scrape interval is longer than was thought: look further back next time. (One
            # proxy that has few scrapes is a new one.)
            self._window = min(2.0 * self._window, max(self._window, 4.0 * self._max_age))
        self._too_short = False
        for proxy in self._proxies.keys() - found.keys():
            troubles[proxy] = self._age(proxy, now)
        if not found:
            self._api.pass_over()
        left_out = self._given_up(troubles, now) if spans else {}
        if not spans and not troubles:
            why = f"no samples in the last {self._window:g} s"
            return self._nothing(now, query, why, answer)
        ends = [p.last.time for p in self._proxies.values() if p.last is not None]
        return observe(
            max(ends) if spans and ends else now,
            spans,
            self._catalogue,
            troubles=troubles,
            left_out=left_out,
            queries=(query,),
            source=str(answer),
            nodes={p: n for p, n in self._nodes.items() if p in self._proxies},
        )

    def _given_up(self, troubles: dict[str, str], now: float) -> dict[str, str]:
        """Takes out of the troubles the proxies that have been silent for so long that others
        carry their traffic."""
        left_out = {}
        for name in troubles.keys() & self._proxies.keys():
            proxy = self._proxies[name]
            silent = now - proxy.newest
            proxy.given_up = proxy.given_up or silent > self._max_age
            if proxy.given_up:
                left_out[name] = troubles.pop(name)
            if silent > max(SAID, self._max_age):
                del self._proxies[name]
        return left_out

    async def close(self) -> None:
        await self._api.close()

    def _nothing(
        self, now: float, query: str, why: str, answer: Answer | None = None
    ) -> Observation:
        source = str(answer) if answer else ""
        why = f"Prometheus: {why}"
        return nothing(now, why, self._catalogue, queries=(query,), source=source)

    def _samples(self, answer: Answer) -> dict[str, Samples]:
        """Of each scrape target. Raises ValueError for an answer that is not one."""
        try:
            content = read_answer(answer.body)
        except ValueError:
            raise ValueError(f"status {answer.status}, and not JSON") from None
        if content["status"] != "success":
            raise ValueError(f"{content.get('errorType')}: {content.get('error')}")
        # Thanos says it in a warning, VictoriaMetrics in a field of its own.
        if content.get("warnings") or content.get("isPartial"):
            raise ValueError(f"it is partial: {(content.get('warnings') or ['isPartial'])[0]}")
        found: dict[str, Samples] = {}
        for series in consume(content["data"]["result"]):
            labels = series["metric"]
            slot = self._catalogue.slot(labels["__name__"], labels)
            if slot is None:
                continue
            proxy = _proxy(labels)
            if node := labels.get(self._node_label):
                self._nodes[proxy] = node
            times = found.setdefault(proxy, {}).setdefault(slot, {})
            for time, value in series["values"]:
                times[time] = times.get(time, 0.0) + float(value)
        return found

    def _span(self, name: str, samples: Samples, now: float) -> Span | str:
        """What one proxy did since the tick before, or why that is not known."""
        times = sorted(_scrapes(samples))
        # A store may show the newest scrape before all of it is in.
        while len(times) > 1 and _series_at(samples, times[-1]) < _series_at(samples, times[-2]):
            times.pop()
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
        self._too_short = True
        return f"{count} scrapes in the last {self._window:g} s, {2 + self._lag} are needed"

    def _reading(self, samples: Samples, times: list[float], time: float) -> Reading:
        """As of the scrape at `time`; histograms from the scrape that tells of that moment."""
        reading = Reading(time)
        later = times[times.index(time) + self._lag]
        for slot, one in samples.items():
            at = later if slot.stat in HISTOGRAM else time
            if at in one:
                reading.put(slot, one[at])
        return reading


def _scrapes(samples: Samples) -> set[float]:
    """When the target was scraped. VictoriaMetrics gives as numbers what Prometheus hides: that
    every series ended, since the target did not answer."""
    totals = (one for slot, one in samples.items() if slot.stat == TOTAL)
    return {time for one in totals for time, value in one.items() if not math.isnan(value)}


def _series_at(samples: Samples, time: float) -> int:
    return sum(time in one for one in samples.values())


def _proxy(labels: Mapping[str, Any]) -> str:
    """A scrape target's name: its instance, and whatever else tells it from others."""
    others = {k: v for k, v in labels.items() if k not in _MODEL_LABELS and k != "instance"}
    tail = ",".join(f"{k}={v}" for k, v in sorted(others.items()))
    return f"{labels.get('instance', 'proxy')}{{{tail}}}" if tail else str(labels.get("instance"))
