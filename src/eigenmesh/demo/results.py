"""What the requests of a phase amount to, and what the demo concludes from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from eigenmesh.demo.load import LATE, UNANSWERED
from eigenmesh.demo.loadgen import Record, Table

WINDOW = 5.0
"""Seconds of the rolling mean that tells a recovery."""

TOLERANCE = 0.25
MIN_SERVED = 0.98


@dataclass(frozen=True, slots=True)
class Stats:
    """One phase. mean, p50, p99: seconds from the intended send time, over every request but the
    rejected ones (a fast 503 is not fast); a request without an answer counts with its age when
    it was given up, which flatters whoever kept it waiting. goodput: requests/s answered with
    200 within the SLO; good: the same as a fraction of all. rejected: by a circuit breaker.
    unanswered: within 5 s, or before the phase's accounts were closed. failed: anything else.
    late: mean seconds by which requests were sent after their time.
    """

    requests: int
    seconds: float
    mean: float
    p50: float
    p99: float
    goodput: float
    good: float
    rejected: int
    unanswered: int
    failed: int
    late: float = 0.0

    @property
    def errors(self) -> int:
        return self.rejected + self.unanswered + self.failed

    def to_dict(self) -> dict[str, float]:
        return {**asdict(self), "errors": self.errors}


def served(table: Table) -> NDArray[np.bool_]:
    return np.logical_and(table.status >= 200, table.status < 300)


def waited(table: Table) -> NDArray[np.bool_]:
    """Requests whose latency says something: served ones and those that waited in vain."""
    return served(table) | np.isin(table.status, (LATE, UNANSWERED))


def summarise(table: Table, seconds: float, slo: float, late: float = 0.0) -> Stats:
    """Figures of the requests that were due within a phase of this length."""
    ok, counted = served(table), waited(table)
    latency = table.latency[counted]
    good = int(np.sum(ok & (table.latency <= slo)))
    rejected = int(np.sum(table.overloaded))
    unanswered = int(np.sum(counted & ~ok))
    total = len(table.status)
    p50, p99 = np.percentile(latency, [50, 99]) if len(latency) else (np.nan, np.nan)
    return Stats(
        requests=total,
        seconds=seconds,
        mean=float(latency.mean()) if len(latency) else float("nan"),
        p50=float(p50),
        p99=float(p99),
        goodput=good / seconds,
        good=good / total if total else float("nan"),
        rejected=rejected,
        unanswered=unanswered,
        failed=total - int(ok.sum()) - rejected - unanswered,
        late=late,
    )


def recovery(table: Table, target: float, seconds: float, window: float = WINDOW) -> float | None:
    """Seconds after the start of `table` until the mean latency is back, None if it is not.

    Back at t: the mean over [t, t + window) and the mean over everything from t to the end are
    both within 25% of `target`, and at least 98% of the requests from t on were served. (At 85%
    load a short mean strays that far by chance, even under the oracle's weights: asking every
    later window to keep to it would fail the oracle itself.)
    """
    counted, ok = waited(table), served(table)
    limit = target * (1.0 + TOLERANCE)
    for t in np.arange(0.0, seconds - 1.5 * window + 1e-9, 0.5):
        rest = table.offset >= t
        near = rest & (table.offset < t + window)
        if not (near & counted).any() or ok[rest].mean() < MIN_SERVED:
            continue
        means = table.latency[rest & counted].mean(), table.latency[near & counted].mean()
        if max(means) <= limit:
            return float(t)
    return None


@dataclass(frozen=True, slots=True)
class Bin:
    """The requests due in half a second that began at `time` (unix seconds); NaN: none was."""

    time: float
    mean: float
    p99: float


def timeline(records: Iterable[Record], width: float = 0.5) -> list[Bin]:
    """Latency over time, without the requests that a breaker rejected."""
    bins: dict[int, list[float]] = {}
    for record in records:
        if not record.overloaded:
            bins.setdefault(int(record.due // width), []).append(record.latency)
    if not bins:
        return []
    return [
        Bin(k * width, float(np.mean(bins[k])), float(np.percentile(bins[k], 99)))
        if k in bins
        else Bin(k * width, float("nan"), float("nan"))
        for k in range(min(bins), max(bins) + 1)
    ]


@dataclass(frozen=True, slots=True)
class Check:
    """A condition of the demo's success: did it hold, and how that was judged."""

    ok: bool
    says: str


def verdict(
    stats: Mapping[str, Stats], pushes: int, push_failures: int, counters: Mapping[str, int]
) -> tuple[Check, ...]:
    """What the exit status rests on.

    stats: by phase. push_failures: requests of the steered phases that failed otherwise than by
    a breaker or by an upstream's queue. counters: Envoy's own, as they grew in these phases.
    """
    before, after = stats["incumbent"], stats["steady"]
    better = after.mean < before.mean and after.p99 < before.p99 and after.goodput > before.goodput
    moved = {name: n for name, n in counters.items() if n}
    return (
        Check(
            better,
            f"better than equal weights: mean {before.mean * 1e3:.0f} -> {after.mean * 1e3:.0f} "
            f"ms, p99 {before.p99 * 1e3:.0f} -> {after.p99 * 1e3:.0f} ms, goodput "
            f"{before.goodput:.0f} -> {after.goodput:.0f} requests/s",
        ),
        Check(pushes > 0, f"Eigenmesh pushed {pushes} plans"),
        Check(
            push_failures == 0,
            f"{push_failures} requests failed otherwise than by a breaker or an overloaded queue",
        ),
        Check(
            not moved,
            "Envoy's counters of broken connections, resets and refused updates: "
            f"{moved or 'none grew'}",
        ),
    )
