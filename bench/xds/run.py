"""Measures the xDS server against the floor: bench/results/xds.json, xds.md and xds.svg.

    python -m bench.xds.run [--full]

Both servers take turns, each in a fresh process. About six minutes, with --full about twelve.
Leave the machine alone meanwhile: servers and clients share its cores. Exit status 1 when a stream
was lost, or did not ACK a push.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.xds import report, trial
from bench.xds.child import ChildError, allow_connections
from bench.xds.scene import Shape
from bench.xds.trial import Case

RESULTS = Path(__file__).parents[1] / "results"
SPLIT = 4


def fleets(sizes: Iterable[int], pushes: int) -> list[Case]:
    """Many streams, one table of some 5 kB, and a client that never reads."""
    return [Case(f"{n} streams", n, pushes=pushes, stalled=1) for n in sizes]


def tables(
    routes: Iterable[int], hosts: Iterable[int], splits: Iterable[int], *, streams: int, pushes: int
) -> list[Case]:
    """Few streams, and a table that grows: in routes, virtual hosts or clusters of a route."""
    grown = [(f"{n} routes", Shape(1, n, SPLIT, 2 * SPLIT)) for n in routes]
    grown += [(f"{n} virtual hosts", Shape(n, 1, SPLIT, max(n, SPLIT))) for n in hosts]
    grown += [(f"{n} weighted clusters", Shape(1, 1, n, n)) for n in splits]
    return [Case(name, streams, shape, pushes=pushes, processes=1) for name, shape in grown]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmark of the xDS server.")
    parser.add_argument("--full", action="store_true", help="five repetitions instead of three")
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--pushes", type=int, default=5, help="of each kind in a trial")
    parser.add_argument("--streams", type=numbers, default="100,1000,2000")
    parser.add_argument("--routes", type=numbers, default="1,100,1000,10000")
    parser.add_argument("--hosts", type=numbers, default="1000", help="virtual hosts")
    parser.add_argument("--splits", type=numbers, default="100,1000,10000", help="clusters")
    parser.add_argument("--few", type=int, default=4, help="streams where the table grows")
    parser.add_argument("--settling", type=float, default=1.0, help="seconds before memory is read")
    parser.add_argument("--node-always", action="store_true", help="clients repeat their node")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    args = parser.parse_args()
    args.repetitions = args.repetitions or (5 if args.full else 3)
    return args


def main() -> int:
    args = arguments()
    allow_connections()
    cases = fleets(args.streams, args.pushes)
    cases += tables(args.routes, args.hosts, args.splits, streams=args.few, pushes=args.pushes)
    cases = [
        dataclasses.replace(case, settling=args.settling, node_always=args.node_always)
        for case in cases
    ]
    trials: list[dict[str, Any]] = []
    failures: list[str] = []
    for repetition in range(args.repetitions):
        for case in cases:
            # Who comes first changes: nobody has the warmer machine every time.
            for server in sorted(trial.SERVERS, reverse=repetition % 2 == 1):
                label = f"{case.name}, {server}, repetition {repetition + 1}"
                try:
                    done = trial.run(case, server)
                except ChildError as error:
                    failures.append(f"{label}: {error}")
                else:
                    trials.append(done)
                    if not trial.complete(done):
                        failures.append(f"{label}: a stream was lost or did not ACK")
                print(f"{label}: load average {os.getloadavg()[0]:.1f}", flush=True)
    document = {
        "machine": {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "grpcio": version("grpcio"),
            "protobuf": version("protobuf"),
        },
        "repetitions": args.repetitions,
        "failures": failures,
        "trials": trials,
    }
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "xds.json").write_text(json.dumps(document, indent=1) + "\n")
    if trials:
        text = report.markdown(document)
        (args.results / "xds.md").write_text(text)
        (args.results / "xds.svg").write_text(report.plot(document))
        print(text)
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
