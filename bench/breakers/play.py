"""Plays a scenario: its variants side by side under the same load, several times over.

All variants run at the same time, each with an Envoy, upstreams and load of its own: whatever the
machine does, it does to all of them. That two cores are enough for it is checked by how late the
load was sent: a repetition in which the 99th percentile of that is above 10 ms is not counted. That
shows the generators only; so one more Envoy stands beside the variants, with upstreams of its own
that have next to nothing to do and to which nothing happens: its latency is that of the service,
and what the machine adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.breakers.figures import idle, windows
from bench.breakers.rig import Event, Rig
from bench.breakers.setup import Bed, Variant

RESULTS = Path(__file__).parents[1] / "results"
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
MOST_LAG = 0.01
"""Seconds: a repetition whose load was later than that (p99) says nothing."""

SHAPE = 4.0
"""Service demands are gamma distributed with this shape (coefficient of variation 0.5): with
exponential ones the p95 of an idle upstream would be three service times."""


IDLE = 0.1
"""Of the first rates: the load of the idle control."""


@dataclass(frozen=True)
class Scenario:
    """script: seconds of one repetition -> what happens in it, beginning with rates at 0.

    warm_up: seconds of the first rates before the start; Eigenmesh's worker imports PennyLane, and
    the controllers settle. patience: seconds until what is unanswered at the end is counted so.
    sampling: seconds between two looks at limits and upstreams.
    """

    name: str
    bed: Bed
    variants: Sequence[Variant]
    script: Callable[[float], Sequence[Event]]
    seconds: float
    warm_up: float = 30.0
    patience: float = 5.0
    sampling: float = 1.0


def options(scenario: Scenario) -> argparse.Namespace:
    """The command line of a scenario's module."""
    parser = argparse.ArgumentParser(description=f"Breakers, scenario {scenario.name}.")
    parser.add_argument("--seconds", type=float, default=scenario.seconds, help="a repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="seconds; shows only that it runs")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="names of variants to run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    parser.add_argument("--pictures", type=Path, default=PICTURES, help="folder")
    parser.add_argument("--logs", type=Path, help="folder to keep logs in")
    parser.add_argument(
        "--report", action="store_true", help="run nothing: only write table and plot anew"
    )
    return parser.parse_args()


def run(scenario: Scenario, args: argparse.Namespace) -> dict[str, Any]:
    """The document of raw figures, which is also written to `results`."""
    path = args.results / f"breakers_{scenario.name}.json"
    if args.report:
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    seconds, repetitions = args.seconds, args.repetitions
    if args.quick:
        scenario = replace(scenario, warm_up=2.0, patience=0.5, sampling=0.5)
        seconds, repetitions = 4.0, 1
    if args.only:
        chosen = [v for v in scenario.variants if v.name in args.only]
        scenario = replace(scenario, variants=chosen)
    done = []
    for number in range(repetitions):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(args.logs or scratch) / f"{scenario.name}-{number + 1}"
            one = asyncio.run(_repetition(scenario, number, seconds, folder))
        done.append(one)
        print(
            f"repetition {number + 1} of {repetitions}: load late by {1e3 * one['lag']:.1f} ms "
            f"(p99){'' if one['counts'] else ', not counted'}",
            flush=True,
        )
    document = {
        "scenario": scenario.name,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "seconds": seconds,
        "upstreams": {u.name: [u.slots, u.service_time] for u in scenario.bed.upstreams},
        "repetitions": done,
    }
    args.results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    return document


async def _repetition(
    scenario: Scenario, repetition: int, seconds: float, folder: Path
) -> dict[str, Any]:
    events = scenario.script(seconds)
    first = events[0].rates
    assert first is not None
    async with AsyncExitStack() as stack:

        async def start(variant: Variant) -> Rig:
            rig = Rig(
                scenario.bed,
                variant,
                folder / variant.name.replace(" ", "-"),
                repetition=repetition,
                shape=SHAPE,
                sampling=scenario.sampling,
            )
            return await stack.enter_async_context(rig)

        rigs = [await start(variant) for variant in scenario.variants]
        control = await start(Variant("idle control"))

        async def everywhere(event: Event, number: int) -> None:
            await asyncio.gather(*(rig.play(event, number) for rig in rigs))

        await control.play(Event(0.0, rates=[IDLE * rate for rate in first]), len(events))
        await everywhere(Event(0.0, rates=first), len(events))
        await asyncio.sleep(scenario.warm_up)
        began = time.time()
        for rig in rigs:
            rig.watch(began)
        for number, event in enumerate(events):
            await asyncio.sleep(max(0.0, began + event.at - time.time()))
            await everywhere(event, number)
        await asyncio.sleep(max(0.0, began + seconds - time.time()))
        await asyncio.gather(*(rig.quiet(scenario.patience) for rig in (*rigs, control)))
        lag = float(np.percentile(np.concatenate([rig.lags for rig in rigs]), 99))
        return {
            "lag": round(lag, 5),
            "counts": lag <= MOST_LAG,
            "idle": idle(control.records, began, seconds),
            "variants": {
                rig.variant.name: {
                    "windows": windows(rig.records, began, seconds),
                    "samples": rig.samples,
                }
                for rig in rigs
            },
        }
