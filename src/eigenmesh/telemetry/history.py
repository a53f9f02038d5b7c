"""Latency inside the window.

A response that came back after ten seconds tells mostly of the windows before this one. What
says something about this window is the time that requests spent in it, and that follows from the
mean latency: take off the age that the requests in flight had when it began, and add the age of
those in flight at its end, which have not been counted yet. In a first-come-first-served backlog
the n requests in flight are the last n that came, so the arrival rates of the past give their
ages. In a settled window the two terms are small and cancel.
"""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[float, float]
"""Arrivals per second, and for how many seconds."""

KEPT = 60
"""Spans that are remembered, newest first."""

_SILENCE = 1e-3
"""Requests/s below which nobody can be said to have come."""

_AGE_ERROR = 0.15
"""Relative: not every server is first-come-first-served."""


def total_age(count: float, spans: Iterable[Span]) -> float:
    """Summed age in seconds of the last `count` arrivals; `spans` run from now into the past.

    Beyond the last span its arrival rate is assumed to have gone on.
    """
    total = past = rate = 0.0
    for load, seconds in spans:
        if count <= 0:
            break
        if load > _SILENCE:
            rate = load
            here = min(count, load * seconds)
            total += here * (past + 0.5 * here / load)
            count -= here
        past += seconds
    if count > 0 and rate > 0:
        total += count * (past + 0.5 * count / rate)
    return total


def inside(
    mean: float, completions: float, before: float, after: float
) -> tuple[float | None, float]:
    """Seconds inside the window per completion, and the relative error of that.

    mean: measured mean latency. before, after: summed ages of the requests in flight at the
    window's start and end. None when the correction leaves nothing.
    """
    total = mean * completions
    corrected = total - before + after
    if completions <= 0 or corrected < 0.02 * total:
        return None, 0.0
    return corrected / completions, _AGE_ERROR * (before + after) / corrected
