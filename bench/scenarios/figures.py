"""From requests to figures, of a real run and of a simulated one alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.scenarios.model import PATIENCE, Scenario, Target
from eigenmesh.demo.load import LATE, UNANSWERED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SUCCESS = 1.0
"""Seconds within which an answer is a success."""


@dataclass(frozen=True)
class Run:
    """One policy in one repetition. due: seconds since the start at which a request was meant to be
    sent. latency: from then to its answer. status: HTTP's, or one of `demo.load`; overloaded
    requests are no 2xx. arrived: upstream -> requests that had reached it after each second of
    `times`. moves: (seconds, share of the traffic that changed its cluster). paid: prices of
    egress, in seconds, until each of `times`; empty: nothing has one. ticks: seconds that each
    decision took."""

    due: Floats
    latency: Floats
    status: Ints
    overloaded: Ints
    times: Sequence[float]
    arrived: Mapping[str, Sequence[int]]
    moves: Sequence[tuple[float, float]] = ()
    paid: Sequence[float] = ()
    ticks: Sequence[float] = ()

    def figures(self, start: float, end: float, slo: float) -> dict[str, float]:
        """Of the requests meant to be sent from `start` up to `end` (seconds). mean, p95, p99: of
        what was answered well, seconds; what was waited for in vain counts with the time for which
        it was, or whoever answers least would be the quickest. answered, success, blocked:
        fractions. goodput, sent: requests/s. churn: of the whole traffic per minute. share X: of
        upstream X. cost: the mean, and what was paid for egress per request, seconds."""
        inside = (self.due >= start) & (self.due < end)
        status, latency = self.status[inside], self.latency[inside]
        ok = (status >= 200) & (status < 300)
        good = latency[ok]
        waited = np.minimum(latency[ok | (status == LATE) | (status == UNANSWERED)], PATIENCE)
        sent, seconds = max(1, int(inside.sum())), end - start
        found = {
            "sent": inside.sum() / seconds,
            "mean": float(waited.mean()) if waited.size else math.inf,
            "answered": good.size / sent,
            "success": float((good <= SUCCESS).sum()) / sent,
            "blocked": float(self.overloaded[inside].sum()) / sent,
            "goodput": float((good <= slo).sum()) / seconds,
            "churn": 60.0 / seconds * sum(m for at, m in self.moves if start <= at < end),
        }
        for name, q in (("p95", 0.95), ("p99", 0.99)):
            found[name] = float(np.quantile(waited, q)) if waited.size else math.inf
        paid = np.interp([start, end], self.times, self.paid) if len(self.paid) else np.zeros(2)
        found["cost"] = found["mean"] + float(paid[1] - paid[0]) / sent
        came = {
            name: float(np.interp(end, self.times, counts) - np.interp(start, self.times, counts))
            for name, counts in self.arrived.items()
        }
        total = max(1.0, sum(came.values()))
        if len(came) <= MOST_SHARES:
            found |= {f"share {name}": n / total for name, n in came.items()}
        return {name: _short(float(value)) for name, value in found.items()}

    def windows(self, seconds: float, slo: float) -> dict[str, list[float]]:
        """Second by second: sent, answered, good (within the SLO), blocked; mean and p99 of the
        answered, infinite without any."""
        rows = []
        order = np.argsort(self.due, kind="stable")
        due, latency = self.due[order], self.latency[order]
        status, over = self.status[order], self.overloaded[order]
        edges = np.searchsorted(due, np.arange(math.ceil(seconds) + 1))
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            good = latency[low:high][(status[low:high] >= 200) & (status[low:high] < 300)]
            rows.append(
                {
                    "sent": float(high - low),
                    "answered": float(good.size),
                    "good": float((good <= slo).sum()),
                    "blocked": float(over[low:high].sum()),
                    "mean": _short(float(good.mean())) if good.size else math.inf,
                    "p99": _short(float(np.quantile(good, 0.99))) if good.size else math.inf,
                }
            )
        return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


MOST_SHARES = 20
"""Upstreams up to which every one's share is a figure."""

Spans = Mapping[str, Mapping[str, float]]
"""Span -> figure -> value, of one policy in one repetition."""


@dataclass(frozen=True)
class Verdict:
    """value: of Eigenmesh, the median of the repetitions' (each against the other policy's in the
    same repetition, if there is one). low, high: their range."""

    target: Target
    value: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        target = self.target
        if target.most is not None:
            return self.value <= target.most
        return target.least is None or self.value >= target.least


def spans(scenario: Scenario, run: Run) -> dict[str, dict[str, float]]:
    return {
        name: run.figures(start, end, scenario.slo) for name, (start, end) in scenario.spans.items()
    }


def verdicts(
    targets: Sequence[Target],
    case: Mapping[str, float | str],
    repetitions: Sequence[Mapping[str, Spans]],
) -> list[Verdict]:
    """repetitions: policy -> its figures."""
    found = []
    for target in targets:
        if any(case.get(key, value) != value for key, value in target.where.items()):
            continue
        name = f"share {target.upstream}" if target.figure == "share" else target.figure
        values = []
        for one in repetitions:
            if "Eigenmesh" not in one or (target.against and target.against not in one):
                continue
            value = one["Eigenmesh"][target.span][name]
            if target.against is not None:
                rival = one[target.against][target.span][name]
                value = value / rival if rival else math.inf
            values.append(value)
        if values:
            found.append(Verdict(target, float(np.median(values)), min(values), max(values)))
    return found


def _short(value: float) -> float:
    """Five digits: more is noise."""
    return float(f"{value:.5g}")
