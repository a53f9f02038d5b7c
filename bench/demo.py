"""Runs the demo several times and keeps the figures: bench/results/demo.json and demo.md.

    python bench/demo.py --runs 5 [--prometheus]

About two and a half minutes a run. Leave the machine alone meanwhile: load, upstreams, Envoy and
Eigenmesh share its cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eigenmesh.demo.outcome import ROWS
from eigenmesh.demo.run import Options, run_demo

RESULTS = Path(__file__).parent / "results"

Run = dict[str, Any]


def figure(phase: str, name: str) -> Callable[[Run], float]:
    return lambda run: float(run["phases"][phase][name])


def ratio(name: str, phase: str, reference: str) -> Callable[[Run], float]:
    return lambda run: float(run["phases"][phase][name] / run["phases"][reference][name])


RATIOS: dict[str, Callable[[Run], float]] = {
    "steady mean / oracle mean": ratio("mean", "steady", "oracle"),
    "steady p99 / oracle p99": ratio("p99", "steady", "oracle"),
    "steady mean / LEAST_REQUEST mean": ratio("mean", "steady", "least-request"),
    "steady p99 / LEAST_REQUEST p99": ratio("p99", "steady", "least-request"),
    "degraded, settled mean / degraded oracle mean": ratio(
        "mean", "degraded, settled", "oracle-degraded"
    ),
}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the range in brackets."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def markdown(runs: Sequence[Run]) -> str:
    """Medians of the runs, with their range in brackets."""
    lines = [
        f"Medians of {len(runs)} runs of the demo, range in brackets; telemetry: "
        f"{runs[0]['telemetry']}; {runs[0]['demand']:g} requests/s, latencies in ms.",
        "",
        "| policy | mean | p50 | p99 | within the SLO, requests/s | errors |",
        "|---|---|---|---|---|---|",
    ]
    for phase, label in ROWS.items():
        cells = [
            spread([1e3 * figure(phase, name)(run) for run in runs], 1)
            for name in ("mean", "p50", "p99")
        ]
        cells.append(spread([figure(phase, "goodput")(run) for run in runs], 0))
        cells.append(spread([figure(phase, "errors")(run) for run in runs], 0))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", "| ratio | median (range) |", "|---|---|"]
    lines += [f"| {name} | {spread([f(run) for run in runs])} |" for name, f in RATIOS.items()]
    back = [run["recovery_seconds"] for run in runs]
    known = [seconds for seconds in back if seconds is not None]
    recovered = f"{len(known)} of {len(runs)} runs recovered"
    if known:
        recovered += f", in {spread(known, 1)} s"
    lines += ["", f"Recovery to within 25% of the degraded oracle's mean: {recovered}."]
    wins: dict[str, int] = {}
    for run in runs:
        for part, solvers in run["wins"].items():
            for solver, count in solvers.items():
                key = f"{part}, {solver}"
                wins[key] = wins.get(key, 0) + count
    tally = ", ".join(f"{key}: {count}" for key, count in sorted(wins.items()))
    lines += ["", f"Whose plan scored better, contests of all runs together: {tally}."]
    late = [1e3 * max(p["late"] for p in run["phases"].values()) for run in runs]
    lines += ["", f"Load sent late, mean of each run's worst phase: {spread(late)} ms."]
    failed = sum(not run["ok"] for run in runs)
    lines += ["", f"Runs with exit status other than 0: {failed}."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the demo several times.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prometheus", action="store_true")
    parser.add_argument("--fast", action="store_true", help="short phases: a trial of this script")
    parser.add_argument("--folder", type=Path, default=Path("runs") / f"bench-{int(time.time())}")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    runs: list[Run] = []
    for number in range(1, args.runs + 1):
        folder = args.folder / str(number)
        print(f"run {number} of {args.runs}: {folder}", flush=True)
        status = run_demo(Options(prometheus=args.prometheus, fast=args.fast, folder=folder))
        if status not in (0, 1):
            return status
        runs.append(json.loads((folder / "summary.json").read_text()))
    args.results.mkdir(parents=True, exist_ok=True)
    name = "demo-prometheus" if args.prometheus else "demo"
    document = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "runs": runs,
    }
    (args.results / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    table = markdown(runs)
    (args.results / f"{name}.md").write_text(table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
