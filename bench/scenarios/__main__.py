"""Plays scenarios, and writes what came of it.

    python -m bench.scenarios [NAME ...] [--twin] [--repetitions 5] [--set capacities.a=300]

On a real Envoy beside its baselines, or, with --twin, simulated. NAME is one of the files beside
this one, or the path of another; all, if none is named. Figures go into scenarios.json and
scenarios.md of the results folder, in place of those of the same scenario before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from pathlib import Path as File
from typing import Any

from bench.day import quiet
from bench.scenarios import document, live, report, twin
from bench.scenarios.figures import spans
from bench.scenarios.model import Scenario
from eigenmesh.control.settings import SettingsError
from eigenmesh.demo.processes import ProcessError

RESULTS = File(__file__).parents[1] / "results"
PAGE = File(__file__).parents[2] / "docs" / "results.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scenarios", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; all if none is named")
    parser.add_argument("--twin", action="store_true", help="simulate; no Envoy is started")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="of the first repetition")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--beside", type=int, default=2, help="policies at a time, on a real Envoy")
    parser.add_argument("--policies", help="comma-separated; in place of the scenario's own")
    parser.add_argument("--results", type=File, default=RESULTS, help="folder")
    parser.add_argument("--pictures", type=File, help="folder for a plot of each case")
    parser.add_argument("--list", action="store_true", help="only say which scenarios there are")
    parser.add_argument("--report", action="store_true", help="only write the tables anew")
    options = parser.parse_args()
    path = options.results / "scenarios.json"
    page = PAGE if options.results == RESULTS else None
    try:
        if options.list:
            for name in document.names():
                print(f"{name:12} {document.load(name)[0].about}")
            return 0
        if options.report:
            print(report.write(report.read(path), options.results, page))
            return 0
        chosen = {n: _cases(n, options) for n in options.names or document.names()}
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    quiet()
    failed = False
    for cases in chosen.values():
        try:
            found = _play(cases, options)
        except ProcessError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        whole = report.read(path)  # another one may have been written meanwhile
        kind = "twin" if options.twin else "envoy"
        whole.setdefault(kind, {})[cases[0].name] = found
        report.write(whole, options.results, page)
        one = {kind: {cases[0].name: found}}
        print(report.tables(one))
    return int(failed)


def _cases(name: str, options: argparse.Namespace) -> list[Scenario]:
    changes = list(options.changes)
    if options.policies:
        changes.append(f"policies=[{options.policies}]")
    return document.load(name, changes)


def _play(cases: list[Scenario], options: argparse.Namespace) -> dict[str, Any]:
    found, raw = [], []
    for scenario in cases:
        repetitions: list[dict[str, Any]] = []
        seconds: list[dict[str, Any]] = []
        simulated = wall = tick = 0.0
        for number in range(options.repetitions):
            print(f"{scenario.name} {dict(scenario.case)}: repetition {number + 1}", flush=True)
            seed = options.seed + number
            if options.twin:
                played = {p: asyncio.run(twin.play(scenario, p, seed)) for p in scenario.policies}
                runs = {policy: one.run for policy, one in played.items()}
                wall += sum(one.wall for one in played.values())
                tick = max([tick, *(t for run in runs.values() for t in run.ticks)])
                simulated += len(played) * (scenario.seconds + scenario.warm_up)
            else:
                try:
                    runs = asyncio.run(live.play(scenario, seed, beside=options.beside))
                except live.LateError as error:
                    print(f"not counted: {error}", file=sys.stderr)
                    continue
            repetitions.append({policy: spans(scenario, run) for policy, run in runs.items()})
            seconds.append(
                {p: run.windows(scenario.seconds, scenario.slo) for p, run in runs.items()}
            )
        extra: dict[str, Any] = {"set": options.changes} if options.changes else {}
        if options.twin:
            extra["speed"] = float(f"{simulated / wall:.3g}")
            extra["tick"] = float(f"{tick:.3g}")
        if not repetitions:
            continue
        found.append(report.case_of(scenario, repetitions, extra))
        raw.append({"case": dict(scenario.case), **extra, "repetitions": seconds})
        if options.pictures:
            said = report.KINDS["twin" if options.twin else "envoy"]
            report.plot(scenario, seconds[0], options.pictures, said)
    if not options.twin:
        # What was simulated can be simulated again; what was measured cannot be measured again.
        folder = options.results / "scenarios"
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(raw, separators=(",", ":"))
        (folder / f"{cases[0].name}.json").write_text(text + "\n")
    return {
        "about": cases[0].about,
        "seconds": cases[0].seconds,
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "cases": found,
    }


if __name__ == "__main__":
    sys.exit(main())
