"""The trials as tables and as a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bench.estimator.predict import FACTORS, FULLEST, OURS, UTILISATIONS, error
from bench.estimator.rules import RULES
from bench.xds.svg import Panel, Series, figure
from eigenmesh.mesh.curve import latency
from tests.telemetry.referee import MM8, PS, SCENES

Trial = Mapping[str, Any]
NAMES = (OURS, *RULES)
MEAN = "predicted"
PLOTTED = 0.75
"""Utilisation at which the plotted curves were observed."""


def percent(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{100 * value:.0f}%" if math.isfinite(value) else "∞"


def cases(trials: Sequence[Trial]) -> Iterator[tuple[str, float, list[Trial]]]:
    for scene in SCENES:
        for at in UTILISATIONS:
            found = [t for t in trials if (t["scene"], t["utilisation"]) == (scene.name, at)]
            if found:
                yield scene.name, at, found


def median_error(trials: Sequence[Trial], who: str, factor: float, what: str = MEAN) -> float:
    """Of what is predicted at `factor` times the load; NaN where nothing is settled."""
    f, truth = str(factor), "truth" if what == MEAN else f"{what}_truth"
    errors = [error(t[what][who][f], t[truth][f]) for t in trials if f in t[truth]]
    return float(np.median(errors)) if errors else math.nan


def markdown(trials: Sequence[Trial]) -> str:
    seeds = len({t["seed"] for t in trials})
    return "\n".join(
        [
            f"Median error of predicted mean latency over {seeds} seeds, all cases together:",
            "",
            *_all(trials, NAMES, MEAN),
            "",
            "The same for the 99th percentile:",
            "",
            *_all(trials, list(trials[0]["p99"]), "p99"),
            "",
            f"By case: {', '.join(NAMES)}. A dash: beyond {FULLEST:.0%} of capacity.",
            "",
            *_by_case(trials),
            "",
            "Capacity, and whether the stated errors hold (68% and 95% if they were normal):",
            "",
            *_certainty(trials),
            "",
        ]
    )


def _all(trials: Sequence[Trial], names: Sequence[str], what: str) -> list[str]:
    lines = ["| load | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for factor in FACTORS:
        cells = [percent(median_error(trials, name, factor, what)) for name in names]
        lines.append(f"| {factor - 1:+.0%} | {' | '.join(cells)} |")
    return lines


def _by_case(trials: Sequence[Trial]) -> list[str]:
    others = [f for f in FACTORS if f != 1.0]
    lines = [
        "| queue | observed at | " + " | ".join(f"{f - 1:+.0%}" for f in others) + " |",
        "|---" * (len(others) + 2) + "|",
    ]
    for scene, at, found in cases(trials):
        cells = []
        for factor in others:
            errors = [median_error(found, name, factor) for name in NAMES]
            cells.append("-" if math.isnan(errors[0]) else " / ".join(map(percent, errors)))
        lines.append(f"| {scene} | {at:.0%} | {' | '.join(cells)} |")
    return lines


def _certainty(trials: Sequence[Trial]) -> list[str]:
    lines = [
        "| queue | observed at | capacity off by | says | within 1 | within 2 "
        "| t0 within 1 | within 2 |",
        "|---" * 8 + "|",
    ]
    for scene, at, found in cases(trials):
        off = float(np.median([error(t["capacity"], t["capacity_truth"]) for t in found]))
        says = float(np.median([t["capacity_error"] for t in found]))
        cells = [percent(off), percent(says)]
        cells += [percent(covered(found, what, k)) for what in ("capacity", "t0") for k in (1, 2)]
        lines.append(f"| {scene} | {at:.0%} | {' | '.join(cells)} |")
    return lines


def covered(trials: Sequence[Trial], what: str, errors: float) -> float:
    """Fraction of trials whose truth is within so many stated errors (of the logarithm)."""
    inside = [
        abs(math.log(t[what] / t[f"{what}_truth"])) < errors * t[f"{what}_error"] for t in trials
    ]
    return float(np.mean(inside))


def demands(found: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Forecast errors as a table."""
    names = list(next(iter(found.values()))[0])
    lines = [
        "Demand of the next window: root mean square error over the mean, median of the seeds:",
        "",
        "| trace | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for trace, seeds in found.items():
        cells = [f"{100 * float(np.median([s[name] for s in seeds])):.1f}%" for name in names]
        lines.append(f"| {trace} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def plot(trials: Sequence[Trial]) -> str:
    """Truth against the median learned curve, and against the curve of every tenth seed."""
    panels = []
    for scene in (MM8, PS):
        loads = np.linspace(0.1, 0.93, 40) * scene.capacity
        found = [t for t in trials if (t["scene"], t["utilisation"]) == (scene.name, PLOTTED)]
        if not found:
            continue
        curves = np.array([latency(loads, t["t0"], t["capacity"]) for t in found])
        low, middle, high = np.quantile(curves, (0.1, 0.5, 0.9), axis=0)

        def series(label: str, of: Callable[[int], float], dashed: bool = False) -> Series:
            points = tuple((float(x), 1e3 * of(i)) for i, x in enumerate(loads))  # noqa: B023
            return Series(label, points, dashed)

        shown = (
            series("truth", lambda i: scene.mean(float(loads[i]))),  # noqa: B023
            series("learned, median seed", lambda i: float(middle[i])),  # noqa: B023
            series("10% of the seeds are below", lambda i: float(low[i]), True),  # noqa: B023
            series("10% of the seeds are above", lambda i: float(high[i]), True),  # noqa: B023
        )
        title = f"{scene.name}, observed at {PLOTTED:.0%}"
        panels.append(Panel(title, "requests/s", "ms", shown))
    return figure(panels)
