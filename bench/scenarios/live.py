"""A scenario on a real Envoy: sleeping upstreams, open-loop load, each policy with its own.

A few policies at a time stand side by side under the same load, so that whatever the machine does,
it does to all of them; then the next few. Every repetition begins with new processes, in another
order. A repetition whose load was sent too late says nothing of the policies, and is played again.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path as File

import numpy as np
import yaml

from bench.breakers.rig import background
from bench.scenarios import policies, stage
from bench.scenarios.figures import Run
from bench.scenarios.model import PATIENCE, Event, Scenario, boundaries
from bench.scenarios.parts import Steering
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, ProcessError, free_port, http_get
from eigenmesh.telemetry.envoy_admin import EnvoyAdminSource

MOST_LAG = 0.01
"""Seconds: load that is later than that (p99) is not open-loop."""
TRIES = 3
LARGE = 60
"""Upstreams that a real run may have."""


class LateError(Exception):
    """The machine was too busy to send the load in time."""


async def play(
    scenario: Scenario, seed: int, *, beside: int = 2, most_lag: float = MOST_LAG
) -> dict[str, Run]:
    """One repetition of all policies, `beside` of them at a time. Raises ProcessError for what
    cannot be run, LateError when the machine is too busy."""
    if why := unplayable(scenario):
        raise ProcessError(f"{scenario.name}: {why}; add --twin")
    order = list(scenario.policies)
    random.Random(seed).shuffle(order)
    found: dict[str, Run] = {}
    for at in range(0, len(order), beside):
        group = order[at : at + beside]
        for left in reversed(range(TRIES)):
            runs, lag = await _together(scenario, group, seed)
            if lag <= most_lag:
                break
            print(f"load late by {1e3 * lag:.1f} ms (p99), played again", file=sys.stderr)
            if not left:
                raise LateError(f"{scenario.name}: load late by {1e3 * lag:.1f} ms (p99)")
        found |= runs
    return {policy: found[policy] for policy in scenario.policies}


def unplayable(scenario: Scenario) -> str | None:
    """Why only the twin can play it."""
    if len(scenario.upstreams) > LARGE:
        return f"{len(scenario.upstreams)} upstreams are too many processes"
    if any(way.calls or way.distance for way in scenario.ways.values()):
        return "its upstreams call each other or are far away"
    if any(event.telemetry for event in scenario.events):
        return "it loses its metrics, which here have no server to be killed"
    return None


async def _together(
    scenario: Scenario, group: list[str], seed: int
) -> tuple[dict[str, Run], float]:
    steps = boundaries(scenario, seed)
    marks = sorted({at for at, _ in steps} | {event.at for event in scenario.events})
    async with AsyncExitStack() as stack:
        folder = File(stack.enter_context(tempfile.TemporaryDirectory(prefix="scenario-")))
        rigs = [_Rig(scenario, policy, folder / str(n)) for n, policy in enumerate(group)]
        for rig in rigs:
            await stack.enter_async_context(rig)
        began = time.time() + scenario.warm_up
        for rig in rigs:
            rig.watch(began)
        for number, mark in enumerate(marks):
            await asyncio.sleep(max(0.0, began + mark - time.time()))
            factor = [f for at, f in steps if at <= mark][-1]
            rates = scenario.demands(scenario.level(mark), factor)
            due = [event for event in scenario.events if event.at == mark]
            phase = 1_000_000 * seed + number
            await asyncio.gather(*(rig.play(due, rates, phase, scenario.shape) for rig in rigs))
        await asyncio.sleep(max(0.0, began + scenario.seconds - time.time()))
        await asyncio.gather(*(rig.quiet() for rig in rigs))
        lags = np.concatenate([rig.load.lags for rig in rigs])
        lag = float(np.percentile(lags, 99)) if lags.size else 0.0
        return {rig.policy: rig.run(began) for rig in rigs}, lag


@dataclass
class _Rig:
    """One policy's processes, what is done to them, and what is seen of them."""

    scenario: Scenario
    policy: str
    folder: File
    times: list[float] = field(default_factory=list)
    arrived: dict[str, list[int]] = field(default_factory=dict)
    moves: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        ports = {name: free_port() for name in self.scenario.upstreams}
        self._ports = stage.Ports(ports)
        self._stack = AsyncExitStack()
        self._plan: dict[str, float] = {}
        self._began = 0.0

    async def __aenter__(self) -> _Rig:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        scenario, ports = self.scenario, self._ports
        for name, one in scenario.upstreams.items():
            port = ports.upstreams[name]
            argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
            argv += ["--slots", str(one.slots), "--service-time", str(one.service_time)]
            await self._enter(ChildProcess(name, argv, log=self._log(name), ready_port=port))
        steered = self.policy == "Eigenmesh"
        if steered:
            await self._enter(self._eigenmesh())
        first = _first(self.policy, scenario)
        document = stage.envoy(scenario, ports, first, steered=steered)
        self._envoy = EnvoyProcess(document, ports.admin, log=self._log("envoy"))
        await self._enter(self._envoy)
        self.load = LoadGenerator(ports.envoy, log=self._log("load"))
        await self._stack.enter_async_context(self.load)
        if self.policy == "L3's rule":
            background(self._stack, self._rule())

    def _eigenmesh(self) -> ChildProcess:
        file = self.folder / "eigenmesh.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        document = stage.settings(self.scenario, self._ports, self.folder)
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        return ChildProcess(
            "eigenmesh",
            [sys.executable, "-m", "eigenmesh", "run", "-c", str(file)],
            log=self._log("eigenmesh"),
            ready_port=self._ports.http,
            ready_path="/healthz",
            ready_timeout=60.0,
            death_signal=signal.SIGTERM,  # so that it can end its worker
        )

    async def play(
        self, events: list[Event], rates: Mapping[str, float], phase: int, shape: float
    ) -> None:
        """These happen; from now on the load is this one, of seeds that all policies share."""
        for event in events:
            if event.upstream is not None:
                now = self.scenario.condition(event.upstream, event.at)
                soon = "" if now.fail_after is None else f"{now.fail_after:g}"
                await self._control(
                    event.upstream,
                    f"slots={now.slots}&service_time={now.service_time}&hang={int(now.hang)}"
                    f"&error_rate={now.error_rate}&fail_after={soon}",
                )
        await self.load.begin(str(phase), rates, seed=phase, shape=shape)
        if events and self.policy == "oracle":
            await self._steer(policies.oracle(self.scenario, events[-1].at))

    def watch(self, began: float) -> None:
        """Sample from now on; times count from unix time `began`."""
        self._began = began
        self.load.lags.clear()
        background(self._stack, self._sample())

    async def quiet(self) -> None:
        """Nobody waits any longer than the load's patience."""
        await self.load.begin("quiet", {}, seed=0)
        await asyncio.sleep(PATIENCE)
        await self.load.close()
        await asyncio.sleep(0.3)  # the last batch

    def run(self, began: float) -> Run:
        records = self.load.records
        return Run(
            due=np.array([r.due - began for r in records]),
            latency=np.array([r.latency for r in records]),
            status=np.array([r.status for r in records], dtype=np.int64),
            overloaded=np.array([r.overloaded for r in records], dtype=np.int64),
            times=self.times,
            arrived=self.arrived,
            moves=self.moves,
        )

    # ------------------------------------------------------------------

    def _log(self, name: str) -> File:
        return self.folder / f"{name}.log"

    async def _enter(self, process: ChildProcess) -> None:
        await self._stack.enter_async_context(process)

    async def _steer(self, steering: Steering) -> None:
        query = stage.runtime(self.scenario, steering.plan)
        await asyncio.to_thread(self._envoy.admin, f"/runtime_modify?{query}", method="POST")

    async def _rule(self) -> None:
        rule = policies.L3Rule(self.scenario)
        names = {name: (stage.HOST, name) for name in self.scenario.paths}
        url = f"http://127.0.0.1:{self._ports.admin}"
        source = EnvoyAdminSource([url], self.scenario.topology, names)
        try:
            while True:
                before = rule.steering
                if (after := rule.update(await source.observe(time.time()))) != before:
                    await self._steer(after)
                await asyncio.sleep(rule.interval)
        finally:
            await source.close()

    async def _control(self, name: str, query: str = "") -> dict[str, float]:
        port = self._ports.upstreams[name]
        status, body = await asyncio.to_thread(http_get, port, f"/_control?{query}")
        if status != 200:
            raise ProcessError(f"upstream {name}: /_control?{query}: {body}")
        state: dict[str, float] = json.loads(body)
        return state

    async def _sample(self) -> None:
        """Once a second: what has reached the upstreams, and how the weights moved."""
        due = time.time()
        while True:
            now = time.time() - self._began
            self.times.append(round(now, 3))
            for name in self.scenario.upstreams:
                state = await self._control(name)
                self.arrived.setdefault(name, []).append(int(state["arrived"]))
            await self._watch_weights(now)
            due += 1.0
            await asyncio.sleep(max(0.0, due - time.time()))

    async def _watch_weights(self, now: float) -> None:
        """By the runtime's own word, whoever said it."""
        text = await asyncio.to_thread(self._envoy.admin, "/runtime")
        entries = json.loads(text)["entries"]
        moved = 0.0
        for name, path in self.scenario.paths.items():
            told = {way: entries.get(f"{name}.{way}") for way in path.ways}
            own = {way: float(entry["final_value"]) for way, entry in told.items() if entry}
            total = sum(own.values())
            for way in path.ways:
                key = f"{name}.{way}"
                share = own.get(way, 0.0) / total if total else 1.0 / len(path.ways)
                moved += 0.5 * path.share * abs(share - self._plan.get(key, share))
                self._plan[key] = share
        if moved > 0.0:
            self.moves.append((now, moved))


def _first(policy: str, scenario: Scenario) -> Steering:
    match policy:
        case "oracle":
            return policies.oracle(scenario, 0.0)
        case "endpoint weights":
            return policies.oracle(scenario, 0.0, endpoints=True)
        case "proportional":
            return policies.proportional(scenario)
        case "greedy":
            return policies.greedy(scenario, 0.0)
        case "local only":
            return policies.local(scenario)
        case "least request":
            return policies.least_request(scenario, 2)
        case "least request of 10":
            return policies.least_request(scenario, 10)
    return policies.equal(scenario)
