"""From requests to figures: windows of a second, which are kept, and what is made of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.breakers.setup import SLO
from eigenmesh.demo.loadgen import Record

WINDOW = 1.0
"""Seconds."""

Columns = Mapping[str, Sequence[Any]]
Figure = Callable[[Mapping[str, Any]], float]
"""Of one variant's raw figures in one repetition: {"windows": ..., "samples": ...}."""


def windows(records: Sequence[Record], began: float, seconds: float) -> dict[str, list[Any]]:
    """Requests by the second in which they were meant to be sent, since unix time `began`.

    sent; answered: 2xx, however late (up to the load's patience); good: those within the SLO;
    blocked: rejected by a breaker of Envoy; errors: the rest. p95, mean: of the latency of the
    answered, in seconds from the intended send time; None without any.
    """
    bins: list[list[Record]] = [[] for _ in range(max(1, round(seconds / WINDOW)))]
    for record in records:
        index = int((record.due - began) // WINDOW)
        if 0 <= index < len(bins):
            bins[index].append(record)
    rows = [_window(inside) for inside in bins]
    return {name: [row[name] for row in rows] for name in rows[0]}


def idle(records: Sequence[Record], began: float, seconds: float) -> dict[str, float]:
    """Mean and p95 of the latency of what the idle control was sent, in seconds."""
    latencies = [r.latency for r in records if 0.0 <= r.due - began < seconds]
    if not latencies:
        return {"mean": float("inf"), "p95": float("inf")}
    return {
        "mean": round(float(np.mean(latencies)), 5),
        "p95": round(float(np.percentile(latencies, 95)), 5),
    }


def _window(inside: Sequence[Record]) -> dict[str, Any]:
    latencies = [r.latency for r in inside if r.ok]
    blocked = sum(r.overloaded for r in inside)
    return {
        "sent": len(inside),
        "answered": len(latencies),
        "good": sum(latency <= SLO for latency in latencies),
        "blocked": blocked,
        "errors": len(inside) - len(latencies) - blocked,
        "p95": round(float(np.percentile(latencies, 95)), 4) if latencies else None,
        "mean": round(float(np.mean(latencies)), 4) if latencies else None,
    }


def share(name: str, start: float = 0.0, end: float = float("inf")) -> Figure:
    """Fraction of the requests sent from `start` to `end` (seconds) that are `name`."""

    def figure(raw: Mapping[str, Any]) -> float:
        inside = slice_of(raw["windows"], start, end)
        return float(sum(inside[name]) / max(1, sum(inside["sent"])))

    return figure


def rate(name: str, start: float = 0.0, end: float = float("inf")) -> Figure:
    """Requests/s that are `name`."""

    def figure(raw: Mapping[str, Any]) -> float:
        inside = slice_of(raw["windows"], start, end)[name]
        return float(sum(inside) / max(1, len(inside)) / WINDOW)

    return figure


def under_target(start: float = 0.0, end: float = float("inf")) -> Figure:
    """Fraction of the windows with load whose p95 is within the SLO; with no answer it is not."""

    def figure(raw: Mapping[str, Any]) -> float:
        inside = slice_of(raw["windows"], start, end)
        busy = [p for p, n in zip(inside["p95"], inside["sent"], strict=True) if n]
        return float(sum(p is not None and p <= SLO for p in busy) / max(1, len(busy)))

    return figure


def slice_of(columns: Columns, start: float, end: float) -> dict[str, Sequence[Any]]:
    """The windows that begin from `start` up to `end`."""
    count = len(next(iter(columns.values())))
    low = min(count, max(0, int(start / WINDOW)))
    high = count if end == float("inf") else min(count, max(low, int(end / WINDOW)))
    return {name: values[low:high] for name, values in columns.items()}


def arrivals(raw: Mapping[str, Any], upstream: str, start: float, end: float) -> float:
    """Requests that reached `upstream` from `start` to `end`, by its own count, retries too."""
    samples = raw["samples"]
    at = np.interp([start, end], samples["time"], samples[f"arrived {upstream}"])
    return float(at[1] - at[0])


def counted(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The repetitions that count."""
    return [one for one in document["repetitions"] if one["counts"]]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, and the range in brackets when there are several."""
    low, high = min(values), max(values)
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({low:.{digits}f}–{high:.{digits}f})"
