"""From counters to an observation: two readings of every proxy, and what happened in between.

What Envoy counts (measured on 1.40), for each attempt at an upstream:
- rejected by a breaker: `_completed`, `5xx` and one of the overflow counters; neither `_total`
  nor `_time`;
- no connection, no healthy host: `_completed` and `5xx`; neither `_total` nor `_time`;
- timed out: `_total`, `_completed` and `5xx` (504), not `_time`;
- closed by the upstream without an answer: `_total`, `_completed` and `5xx` (503), not `_time`;
- answered: all of them;
- answered or reset, and then retried: `_total` and `_retry`, neither `_completed` nor `5xx`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from eigenmesh.mesh import Cause, ClusterObservation, Observation, ProxyLoad
from eigenmesh.telemetry import histogram
from eigenmesh.telemetry.catalogue import (
    ACTIVE,
    BUCKET,
    COMPLETED,
    CONNECTIONS,
    COUNT,
    ERRORS,
    GAUGES,
    OVERFLOWS,
    PENDING,
    REJECTED,
    RESETS,
    RETRY,
    SERVER,
    SUM,
    TIMEOUTS,
    TOTAL,
    UNREACHED,
    UPTIME,
    Catalogue,
    Owner,
    Slot,
)

QUANTILES = (0.5, 0.9, 0.99)


@dataclass
class Stats:
    """One owner's: stat -> value, and the latency buckets (upper bound in ms -> count)."""

    values: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)

    def get(self, stat: str) -> float:
        return self.values.get(stat, 0.0)

    def sum(self, stats: Iterable[str]) -> float:
        return sum(self.get(stat) for stat in stats)


@dataclass
class Reading:
    """One proxy's statistics at `time` (seconds of any steady clock)."""

    time: float
    stats: dict[Owner, Stats] = field(default_factory=dict)

    def put(self, slot: Slot, value: float) -> None:
        """Series that differ only in labels that nobody asked about are added up."""
        stats = self.stats.setdefault(slot.owner, Stats())
        if slot.stat == BUCKET:
            stats.buckets[slot.bound] = stats.buckets.get(slot.bound, 0.0) + value
        else:
            stats.values[slot.stat] = stats.get(slot.stat) + value

    @property
    def uptime(self) -> float | None:
        """Seconds since Envoy started, as of its last flush."""
        server = self.stats.get(SERVER)
        return server.values.get(UPTIME) if server else None


@dataclass(frozen=True)
class Span:
    """One proxy between two readings: by owner what happened, or why that is not known.

    trouble: why nothing of this proxy is known.
    """

    seconds: float
    changes: Mapping[Owner, Stats | str] = field(default_factory=dict)
    trouble: str | None = None


def span(before: Reading, after: Reading) -> Span:
    """What happened between two readings of one proxy.

    One counter that went back is taken for a restart of the whole proxy, whose other counters
    may have outgrown what they were.
    """
    seconds = after.time - before.time
    if not seconds > 0:
        return Span(0.0, trouble="its clock went back")
    was, is_ = before.uptime, after.uptime
    if was is not None and is_ is not None and is_ < was:
        return Span(seconds, trouble="Envoy was restarted")
    changes: dict[Owner, Stats | str] = {}
    for owner, now in after.stats.items():
        if owner == SERVER:
            continue
        then = before.stats.get(owner)
        if then is None:
            changes[owner] = "first scrape"
            continue
        change = _change(then, now)
        if (reset := _went_back(change)) is not None:
            return Span(seconds, trouble=f"{reset} of {owner.name} went back: Envoy was restarted")
        changes[owner] = _not_finite(change) or change
    return Span(seconds, changes)


def _change(then: Stats, now: Stats) -> Stats:
    """Deltas of counters, last values of gauges. A counter that was not there was zero: Envoy
    makes some of them (5xx, histograms) when they are first needed. One that is gone is zero."""
    out = Stats()
    for stat in now.values.keys() | then.values.keys():
        gauge = stat in GAUGES
        out.values[stat] = now.get(stat) - (0.0 if gauge else then.get(stat))
    for bound in now.buckets.keys() | then.buckets.keys():
        out.buckets[bound] = now.buckets.get(bound, 0.0) - then.buckets.get(bound, 0.0)
    return out


def _went_back(change: Stats) -> str | None:
    """The first counter that is smaller than it was."""
    for stat, value in change.values.items():
        if value < 0 and stat not in GAUGES:
            return stat
    for bound, value in change.buckets.items():
        if value < 0:
            return f"bucket {bound:g}"
    return None


def _not_finite(change: Stats) -> str | None:
    for stat, value in change.values.items():
        if not math.isfinite(value):
            return f"{stat} is {value}"
    if not all(map(math.isfinite, change.buckets.values())):
        return f"{BUCKET} is not a number"
    return None


def observe(
    time: float,
    spans: Mapping[str, Span],
    catalogue: Catalogue,
    *,
    troubles: Mapping[str, str] | None = None,
    left_out: Mapping[str, str] | None = None,
    queries: tuple[str, ...] = (),
    source: str = "",
    nodes: Mapping[str, str] | None = None,
) -> Observation:
    """The mesh's observation from its proxies', added up.

    time: unix seconds. troubles: proxy -> why it could not be read. A proxy without data leaves
    the whole mesh without: part of the traffic is not the traffic. left_out: proxies that carry
    no traffic any more, and why. nodes: proxy -> id of its node, where that is known.
    """
    reasons = {**(troubles or {}), **{p: s.trouble for p, s in spans.items() if s.trouble}}
    window = max((s.seconds for s in spans.values()), default=0.0)
    if reasons or not spans:
        proxy, reason = next(iter(reasons.items()), ("", "no proxy has reported yet"))
        why = f"{proxy}: {reason}" if proxy else reason
        bare = nothing(time, why, catalogue, window=window, queries=queries, source=source)
        # Who has how much of the traffic is known of those that could be read.
        known = {p: _loads(one, catalogue.clusters) for p, one in spans.items() if not one.trouble}
        return replace(bare, proxies=known, nodes=nodes or {})
    missing = dict.fromkeys(catalogue.without_stats, "its stat_prefix is not known")
    rates: dict[Owner, Stats] = {}
    owners = [Owner("cluster", c) for c in catalogue.clusters]
    owners += [Owner("route", r) for r in catalogue.routes]
    for owner in owners:
        merged = _merge(owner, spans)
        if isinstance(merged, str):
            missing[owner.name] = merged
        else:
            rates[owner] = merged
    clusters = {o.name: _cluster(s) for o, s in rates.items() if o.kind == "cluster"}
    unsent = sum(s.sum((*OVERFLOWS, *UNREACHED)) for o, s in rates.items() if o.kind == "cluster")
    routes = {o.name: s for o, s in rates.items() if o.kind == "route"}
    demands = _demands(routes, unsent)
    proxies = {proxy: _loads(one, clusters) for proxy, one in spans.items()}
    return Observation(
        time,
        window,
        clusters,
        demands,
        missing,
        queries=queries,
        proxies=proxies,
        left_out=left_out or {},
        source=source,
        nodes=nodes or {},
    )


def nothing(
    time: float,
    why: str,
    catalogue: Catalogue,
    *,
    window: float = 0.0,
    queries: tuple[str, ...] = (),
    source: str = "",
) -> Observation:
    """An observation that lacks everything, for one reason."""
    missing = dict.fromkeys(catalogue.owners, why)
    return Observation(time, window, {}, {}, missing, queries, source=source)


def _merge(owner: Owner, spans: Mapping[str, Span]) -> Stats | str:
    """One owner's rates over all proxies that have it: per second, gauges as they are."""
    out = Stats(defaultdict(float), defaultdict(float))
    found = False
    for proxy, one in spans.items():
        change = one.changes.get(owner)
        if change is None:
            continue
        if isinstance(change, str):
            return f"{proxy}: {change}"
        if TOTAL not in change.values:
            return f"{proxy}: {TOTAL} is absent"
        found = True
        for stat, value in change.values.items():
            out.values[stat] += value if stat in GAUGES else value / one.seconds
        for bound, value in change.buckets.items():
            out.buckets[bound] += value / one.seconds
    if found:
        return out
    return (
        "no statistics of this route" if owner.kind == "route" else "no statistics of this cluster"
    )


def _loads(one: Span, clusters: Iterable[str]) -> dict[str, ProxyLoad]:
    """One proxy's part of these clusters."""
    changes = {name: one.changes.get(Owner("cluster", name)) for name in clusters}
    return {
        name: ProxyLoad(stats.get(TOTAL) / one.seconds, stats.sum((ACTIVE, PENDING)))
        for name, stats in changes.items()
        if isinstance(stats, Stats)
    }


def _cluster(rates: Stats) -> ClusterObservation:
    overflow = rates.sum(OVERFLOWS)
    found = {q: histogram.quantile(rates.buckets, q) for q in QUANTILES}
    quantiles = {q: one for q, one in found.items() if one is not None}
    # An attempt that was retried came back from the upstream, and was a failure to Envoy.
    retries = rates.get(RETRY)
    failed = max(0.0, rates.get(ERRORS) - overflow) + retries
    causes = {
        Cause.RESET: rates.sum(RESETS),
        Cause.TIMEOUT: rates.sum(TIMEOUTS),
        Cause.CONNECT: rates.sum(UNREACHED),
    }
    # Envoy counts what it made of the others as 5xx too.
    own = max(0.0, failed - sum(causes.values()))
    return ClusterObservation(
        load=rates.get(TOTAL),
        throughput=max(0.0, rates.get(COMPLETED) - overflow) + retries,
        mean=histogram.mean(rates.get(SUM), rates.get(COUNT), rates.buckets),
        in_flight=rates.get(ACTIVE) + rates.get(PENDING),
        quantiles={q: one.value for q, one in quantiles.items()},
        upstream_errors=failed,
        breaker_errors=overflow,
        retries=retries,
        resolutions={q: one.high - one.low for q, one in quantiles.items()},
        connections=rates.get(CONNECTIONS),
        pending=rates.get(PENDING),
        errors={Cause.STATUS: own, **causes},
    )


def _demands(routes: Mapping[str, Stats], unsent: float) -> dict[str, float]:
    """Requests/s entering each route.

    A route's `_completed` counts them when they end, and a growing queue hides them. Its `_total`
    counts attempts as they are sent: take off the retries and add those that were not sent. The
    latter are counted by cluster only, as 503s to the route, by which they are shared out.
    """
    rejected = sum(s.get(REJECTED) for s in routes.values())
    share = min(1.0, unsent / rejected) if rejected > 0 else 0.0
    return {
        name: max(0.0, s.get(TOTAL) - s.get(RETRY)) + share * s.get(REJECTED)
        for name, s in routes.items()
    }
