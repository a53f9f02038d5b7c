"""The learned curves against a real Envoy, real queues and a real Prometheus.

    python -m bench.estimator.live [--tiny] [--results FOLDER]

Three upstreams with 8, 4 and 2 slots of 20 ms exponential service, a route each, open-loop Poisson
load. One run is watched by three sources at once: Envoy's own page and Prometheus that scrapes it
every second (windows of 2 s), and every 5 s (windows of 10 s). Each observes 60% and then 75% of
the capacity for 80 s, and predicts from that the latency at other loads, which are then driven.
Last, upstream `a` loses half its slots, and gets them back. About six minutes; leave the machine
alone, for the latencies are real. Writes estimator_live.json and estimator_live.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.estimator import live_report
from bench.estimator.predict import FACTORS, FULLEST, OURS, brief
from bench.estimator.rules import RULES, Seen
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.oracle import Upstream
from eigenmesh.demo.processes import (
    ChildProcess,
    EnvoyProcess,
    PrometheusProcess,
    free_port,
    http_get,
)
from eigenmesh.demo.stage import UPSTREAMS
from eigenmesh.mesh import Cluster, ClusterObservation, CurveEstimate, Route, Topology
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource
from eigenmesh.telemetry.estimator import Estimator
from eigenmesh.telemetry.prometheus import PrometheusSource
from eigenmesh.telemetry.source import Source
from tests.telemetry.bed import bootstrap, cluster

RESULTS = Path(__file__).parents[1] / "results"
TOPOLOGY = Topology(
    tuple(Cluster(u.name) for u in UPSTREAMS), tuple(Route(u.name, (u.name,)) for u in UPSTREAMS)
)
ROUTES = {u.name: ("live", u.name) for u in UPSTREAMS}
UTILISATIONS = (0.6, 0.75)
CHANGED = UPSTREAMS[0]
HALF = CHANGED.degraded(CHANGED.slots // 2, CHANGED.service_time)
AT = 0.4
"""Utilisation around the change: 80% of what is left of the changed upstream."""

FLUSH = "0.1s"
"""Envoy merges its histograms this often, and not when it is asked: with three readers the
request of one would freshen what another reads."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each part; `pace` scales the scrape intervals and windows."""

    settle: float = 3.0
    observe: float = 80.0
    drive: float = 20.0
    change: float = 35.0
    pace: float = 1.0


TINY = Timing(settle=0.3, observe=1.5, drive=0.5, change=1.0, pace=0.1)


@dataclass
class Watcher:
    """One source and what is learned from it, a window every `tick` seconds.

    windows, estimates: by cluster; an estimate comes with the unix time at which it was there.
    """

    name: str
    source: Source
    tick: float
    since: float = 0.0
    estimator: Estimator = field(default_factory=Estimator)
    windows: dict[str, list[ClusterObservation]] = field(default_factory=dict)
    estimates: list[tuple[float, dict[str, CurveEstimate]]] = field(default_factory=list)

    def forget(self) -> None:
        """Learn anew, from windows that begin now or later."""
        self.since = time.time()
        self.estimator = Estimator()
        self.windows = {}

    def changes(self) -> int:
        """How many changes were believed so far."""
        believed = {(name, e.changed_at) for _, seen in self.estimates for name, e in seen.items()}
        return sum(at is not None for _, at in believed)

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self.tick, loop.time())
            await asyncio.sleep(due - loop.time())
            seen = await self.source.observe(time.time())
            if seen.time - seen.window < self.since or not seen.clusters:
                continue
            self.estimator.update(seen)
            self.estimates.append((time.time(), dict(self.estimator.estimates)))
            for name, window in seen.clusters.items():
                self.windows.setdefault(name, []).append(window)


@dataclass(frozen=True)
class Learned:
    """What one source knew of one upstream when the load at `utilisation` ended."""

    source: str
    upstream: Upstream
    utilisation: float
    estimate: CurveEstimate
    seen: Seen
    windows: int


def rates(utilisation: float) -> dict[str, float]:
    return {u.name: utilisation * u.capacity for u in UPSTREAMS}


def key(utilisation: float) -> str:
    return f"{utilisation:.4g}"


class Live:
    """The processes and what is measured. truths: utilisation -> upstream -> figures."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.ports = {u.name: free_port() for u in UPSTREAMS}
        self.watchers: list[Watcher] = []
        self.learned: list[Learned] = []
        self.truths: dict[str, dict[str, Any]] = {}
        self.false_alarms: dict[str, int] = {}
        self._seed = 0

    async def run(self, folder: Path) -> dict[str, Any]:
        async with AsyncExitStack() as stack:
            load = await self._start(stack, folder)
            for utilisation in UTILISATIONS:
                await self._drive(load, utilisation, self.timing.observe, learn=True)
            others = {key(f * u): f * u for u in UTILISATIONS for f in FACTORS}
            for name, utilisation in sorted(others.items()):
                if utilisation < FULLEST and name not in self.truths:
                    await self._drive(load, utilisation, self.timing.drive)
            changes = await self._change(load)
        return {
            "cases": list(self._cases()),
            "truths": self.truths,
            "changes": changes,
            "false alarms": self.false_alarms,
            "late": max(late for _, late in load.lateness),
        }

    async def _start(self, stack: AsyncExitStack, folder: Path) -> LoadGenerator:
        async def enter(process: ChildProcess) -> None:
            await stack.enter_async_context(process)

        for u in UPSTREAMS:
            port = self.ports[u.name]
            argv = [
                *(sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)),
                *("--slots", str(u.slots), "--service-time", str(u.service_time)),
            ]
            await enter(ChildProcess(u.name, argv, log=folder / u.name, ready_port=port))
        hosts = [
            {
                "name": "live",
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"prefix": f"/{u.name}"},
                        "stat_prefix": u.name,
                        "route": {
                            "weighted_clusters": {"clusters": [{"name": u.name, "weight": 1}]}
                        },
                    }
                    for u in UPSTREAMS
                ],
            }
        ]
        port, admin = free_port(), free_port()
        config = bootstrap(port, hosts, [cluster(n, p) for n, p in self.ports.items()])
        del config["stats_flush_on_admin"]
        config["stats_flush_interval"] = FLUSH
        await enter(EnvoyProcess(config, admin, log=folder / "envoy.log"))
        self._watch(
            "direct", EnvoyAdminSource([f"http://127.0.0.1:{admin}"], TOPOLOGY, ROUTES), 2.0
        )
        for interval, tick in ((1.0, 2.0), (5.0, 10.0)):
            every = interval * self.timing.pace
            store = PrometheusProcess(
                [f"127.0.0.1:{admin}"], free_port(), interval=every, log=folder / "prometheus.log"
            )
            await enter(store)
            source = PrometheusSource(
                [store.url], TOPOLOGY, ROUTES, window=4.0 * every, histogram_lag=0
            )
            self._watch(f"Prometheus, {interval:g} s", source, tick)
        for watcher in self.watchers:
            stack.push_async_callback(watcher.source.close)
        load = LoadGenerator(port, log=folder / "load.log")
        await stack.enter_async_context(load)
        # It takes Prometheus five seconds to find its targets; queues settle meanwhile.
        await load.begin("warm-up", rates(UTILISATIONS[0]), seed=99)
        await asyncio.sleep(6.0)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for watcher in self.watchers:
            stack.callback(group.create_task(watcher.watch()).cancel)
        return load

    def _watch(self, name: str, source: Source, tick: float) -> None:
        self.watchers.append(Watcher(name, source, tick * self.timing.pace))

    async def _drive(
        self, load: LoadGenerator, utilisation: float, seconds: float, *, learn: bool = False
    ) -> None:
        self._seed += 1
        settle, name = self.timing.settle, key(utilisation)
        began = await load.begin(name, rates(utilisation), seed=self._seed)
        await asyncio.sleep(settle)
        if learn:
            for watcher in self.watchers:
                watcher.forget()
        await asyncio.sleep(began + settle + seconds - time.time())
        if learn:
            self.learned += self._know(utilisation)
        # What was sent last is answered while the next load has begun.
        await load.begin(f"{name}-after", rates(utilisation), seed=self._seed + 1000)
        await asyncio.sleep(min(1.0, settle))
        table = load.table(name, settle, settle + seconds)
        self.truths[name] = {}
        for u in UPSTREAMS:
            mine = table.route == u.name
            latencies = table.latency[mine & (table.status == 200)]
            rate = float(mine.sum()) / seconds
            self.truths[name][u.name] = {
                "load": brief(rate),
                "mean": brief(float(latencies.mean())),
                "erlang": brief(u.mean_latency(rate)),
                "failed": int(mine.sum()) - len(latencies),
            }

    def _know(self, utilisation: float) -> Iterator[Learned]:
        for watcher in self.watchers:
            for u in UPSTREAMS:
                if estimate := watcher.estimator.estimates.get(u.name):
                    windows = watcher.windows[u.name]
                    seen = Seen.of(windows)
                    yield Learned(watcher.name, u, utilisation, estimate, seen, len(windows))

    def _cases(self) -> Iterator[dict[str, Any]]:
        """Predicted at the loads that were really driven, which chance moved a little."""
        for one in self.learned:
            curve = one.estimate.curve
            driven = {
                str(f): self.truths[name][one.upstream.name]
                for f in FACTORS
                if (name := key(f * one.utilisation)) in self.truths
            }
            predicted = {
                name: {f: brief(rule(one.seen, t["load"])) for f, t in driven.items()}
                for name, rule in RULES.items()
            }
            predicted[OURS] = {f: brief(curve.latency(t["load"])) for f, t in driven.items()}
            yield {
                "source": one.source,
                "upstream": one.upstream.name,
                "utilisation": one.utilisation,
                "windows": one.windows,
                "load": brief(one.seen.load),
                "mean": brief(one.seen.mean),
                "t0": brief(curve.t0),
                "t0_error": brief(one.estimate.t0_error),
                "capacity": brief(curve.capacity),
                "capacity_error": brief(one.estimate.capacity_error),
                "capacity_truth": one.upstream.capacity,
                "truth": {f: t["mean"] for f, t in driven.items()},
                "erlang": {f: t["erlang"] for f, t in driven.items()},
                "predicted": predicted,
            }

    async def _change(self, load: LoadGenerator) -> list[dict[str, Any]]:
        """Half the slots for a while, then all of them, under a load that stays."""
        await load.begin("change", rates(AT), seed=77)
        await asyncio.sleep(0.4 * self.timing.change)
        self.false_alarms = {w.name: w.changes() for w in self.watchers}
        found = []
        for event, now in (("halved", HALF), ("healed", CHANGED)):
            knobs = f"/_control?slots={now.slots}"
            status, body = await asyncio.to_thread(http_get, self.ports[now.name], knobs)
            if status != 200:
                raise RuntimeError(f"upstream {now.name}: {knobs}: {body}")
            began = time.time()
            await asyncio.sleep(self.timing.change)
            found += [self._followed(event, now, watcher, began) for watcher in self.watchers]
        return found

    def _followed(
        self, event: str, now: Upstream, watcher: Watcher, began: float
    ) -> dict[str, Any]:
        """The curves since the change at unix time `began`, as seconds after it."""
        at = AT * CHANGED.capacity
        curves = [
            {
                "seconds": brief(known - began),
                "changed": e.changed_at is not None and e.changed_at > began,
                "t0": brief(e.curve.t0),
                "capacity": brief(e.curve.capacity),
                "capacity_error": brief(e.capacity_error),
                "latency": brief(e.curve.latency(at)),
            }
            for known, estimates in watcher.estimates
            if known > began and (e := estimates.get(now.name))
        ]
        return {
            "event": event,
            "source": watcher.name,
            "capacity_truth": now.capacity,
            "latency_truth": brief(now.mean_latency(at)),
            "curves": curves,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="The learned curves against real servers.")
    parser.add_argument("--tiny", action="store_true", help="seconds; shows only that it runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(Live(TINY if args.tiny else Timing()).run(Path(folder)))
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "estimator_live.json").write_text(json.dumps(found, indent=1) + "\n")
    text = live_report.markdown(found)
    (args.results / "estimator_live.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
