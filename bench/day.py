"""A day of ticks, simulated: does anything grow, does anything drift?

    python -m bench.day [--hours 24] [--results FOLDER]

The real loop, estimator, classical solvers and journal over three simulated queues with noise, a
tick every 5 simulated seconds as fast as they can; once at a constant demand, once at one that
swings with a period of a day. Some six minutes each. Writes what there is after every hour to
day.json and a table to day.md. Exit status 1 if a weight drifts by more than the deadband under
the constant demand, or anything grows after the first hours.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from eigenmesh.control.journal import Journal, Retention
from eigenmesh.mesh import GuardPolicy
from tests.control.meshes import Queues, Simulation

RESULTS = Path(__file__).resolve().parent / "results"
TICK = 5.0
HOUR = 3600.0
DAY = 86_400.0
DEMAND = 900.0
"""Requests/s of the 1,400 that the queues can serve: every cluster is needed."""
WARM = 0.5
"""Part of the hours after which nothing may grow any more."""
KEEP = Retention(megabytes=8)
"""What the journal may be; it is full after some two hours."""
GROWTH = 1.05
"""Factor that is allowed after that: allocators and collectors are not exact."""


@dataclass(frozen=True)
class Hour:
    """After so many simulated hours. rss, journal, estimator: bytes of the process, of the
    journal's file and of the estimator's state as the journal has it. objects: that Python's
    collector knows. pushes: in this hour. swing: of each weight in this hour, largest less
    smallest; weights: their mean. seconds: that the hour took."""

    hours: float
    rss: int
    objects: int
    journal: int
    estimator: int
    pushes: int
    weights: dict[str, float]
    swing: dict[str, float]
    seconds: float


async def live(
    folder: Path,
    hours: float,
    *,
    period: float,
    step: float = 1.0,
    keep: Retention = KEEP,
) -> list[Hour]:
    """So many simulated hours, looked at every `step` of them. period: of the demand, in seconds;
    0: it is constant."""
    path = folder / "journal.sqlite"
    journal = Journal(path, keep=keep)
    mesh = Simulation(journal, None, Queues(interval=TICK, period=period, demand=DEMAND), TICK)
    found = []
    try:
        for number in range(1, round(hours / step) + 1):
            began = time.perf_counter()
            mesh.pushed.clear()  # or what is found to grow is the simulation's own list
            seen: dict[str, list[float]] = {name: [] for name in "abc"}
            for _ in range(round(step * HOUR / TICK)):
                await mesh.tick()
                for name, weight in mesh.loop.plan.weights["shop"].items():
                    seen[name].append(weight)
            gc.collect()
            found.append(
                Hour(
                    hours=number * step,
                    rss=_rss(),
                    objects=len(gc.get_objects()),
                    journal=path.stat().st_size,
                    estimator=len(json.dumps(mesh.loop.estimator.to_dict())),
                    pushes=len(mesh.pushed),
                    weights={n: round(sum(w) / len(w), 5) for n, w in seen.items()},
                    swing={n: round(max(w) - min(w), 5) for n, w in seen.items()},
                    seconds=round(time.perf_counter() - began, 2),
                )
            )
    finally:
        journal.close()
    return found


def growing(hours: Sequence[Hour], keep: Retention = KEEP) -> list[str]:
    """What is more at the end than it was when everything had been filled once, and the journal
    if it is larger than it may be."""
    warm, last = hours[max(0, round(WARM * len(hours)) - 1)], hours[-1]
    found = [
        f"{name}: {before:,} after {warm.hours:g} h, {now:,} after {last.hours:g} h"
        for name in ("rss", "objects", "estimator")
        if (now := getattr(last, name)) > GROWTH * (before := getattr(warm, name))
    ]
    if max(hour.journal for hour in hours) > keep.megabytes * 1e6:
        found.append(f"journal: {last.journal:,} bytes, above {keep.megabytes:g} MB")
    return found


def drifting(hours: Sequence[Hour], deadband: float) -> list[str]:
    """Weights that are not what they were after the first hours, by more than the deadband."""
    warm, last = hours[max(0, round(WARM * len(hours)) - 1)], hours[-1]
    return [
        f"{name}: {warm.weights[name]:.3f}, then {weight:.3f}"
        for name, weight in last.weights.items()
        if abs(weight - warm.weights[name]) > deadband
    ]


def _rss() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def quiet() -> None:
    """Says nothing but what went wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def table(runs: dict[str, list[Hour]]) -> str:
    lines = [
        "# A day of ticks",
        "",
        "`make bench-day`; every hour is in `day.json`. Simulated queues; the loop, the estimator, "
        "the classical solvers and the journal are the real ones.",
        "",
        "| demand | hour | process, MB | Python objects | journal, MB | estimator, kB "
        "| pushes in it | weights a / b / c | swing |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for demand, hours in runs.items():
        for one in (hours[0], *hours[5::6]):
            weights = " / ".join(f"{w:.3f}" for w in one.weights.values())
            lines.append(
                f"| {demand} | {one.hours:g} | {one.rss / 1e6:.1f} | {one.objects:,} "
                f"| {one.journal / 1e6:.2f} | {one.estimator / 1e3:.1f} | {one.pushes} "
                f"| {weights} | {max(one.swing.values()):.3f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    quiet()
    runs: dict[str, list[Hour]] = {}
    for demand, period in (("constant", 0.0), ("a day's swing", DAY)):
        with tempfile.TemporaryDirectory(prefix="eigenmesh-day-") as folder:
            runs[demand] = asyncio.run(live(Path(folder), options.hours, period=period))
    problems = [line for hours in runs.values() for line in growing(hours)]
    problems += drifting(runs["constant"], GuardPolicy().deadband)
    raw: dict[str, Any] = {name: [asdict(hour) for hour in hours] for name, hours in runs.items()}
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "day.json").write_text(json.dumps(raw, indent=1) + "\n")
    text = table(runs)
    (options.results / "day.md").write_text(text)
    print(text, *problems, sep="\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
