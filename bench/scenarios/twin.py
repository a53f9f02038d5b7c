"""The offline twin: a scenario played on simulated Envoys and upstreams, as fast as it goes.

Eigenmesh itself is the real one: loop, estimator, objective, classical solvers, guards, storm and
fast guard, and the journal. Only its clock and what it scrapes are simulated, and the circuits are
left out. A plan is in force at once; a scrape takes no time.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path as File
from types import TracebackType
from typing import Protocol

import numpy as np

from bench.scenarios import policies
from bench.scenarios.engine import OVERLOADED, Engine
from bench.scenarios.figures import Run
from bench.scenarios.model import PATIENCE, Scenario, boundaries
from bench.scenarios.parts import Steering
from bench.scenarios.view import View
from eigenmesh.control.fast import FastLoop
from eigenmesh.control.journal import Journal
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.proposal import LoopSettings
from eigenmesh.guard import FastGuard, Storm
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import Plan
from eigenmesh.optimize import portfolio
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.telemetry.coupled import CoupledEstimator

EPOCH = 1_000_000.0
"""Unix seconds of a repetition's start."""
SECOND = 1.0


class Hand(Protocol):
    """Who steers. interval: seconds between two ticks, None: it never looks."""

    interval: float | None

    async def tick(self) -> None: ...

    async def look(self) -> None:
        """Every second between them."""
        ...

    def lose(self, lost: bool) -> None:
        """Metrics are lost, or back."""
        ...

    def happen(self) -> None:
        """An event has happened: who knows everything may act on it."""
        ...


@dataclass(frozen=True)
class Played:
    """entered: requests. wall: seconds that the simulation took."""

    run: Run
    entered: int
    wall: float


async def play(scenario: Scenario, policy: str, seed: int, *, proxies: int = 1) -> Played:
    """One repetition under one policy."""
    began = time.perf_counter()
    collecting = gc.isenabled()
    gc.disable()  # millions of requests, and not a circle among them
    try:
        played = await _play(scenario, policy, seed, proxies)
    finally:
        if collecting:
            gc.enable()
    run, entered = played
    return Played(run, entered, time.perf_counter() - began)


async def _play(scenario: Scenario, policy: str, seed: int, proxies: int) -> tuple[Run, int]:
    start = -scenario.warm_up
    engine = Engine(
        scenario,
        seed,
        start=start,
        proxies=proxies,
        one_cluster=policy.startswith("least request") or policy == "endpoint weights",
    )
    moves: list[tuple[float, float]] = []
    steering: list[Steering] = []

    def steer(new: Steering) -> None:
        if steering:
            moves.append((engine.now, _moved(steering[-1].plan, new.plan, scenario)))
        steering.append(new)
        engine.steer(new)

    times: list[float] = []
    paid: list[float] = []
    prices = {name: way.egress_cost for name, way in scenario.ways.items() if way.egress_cost}
    arrived: dict[str, list[int]] = {name: [] for name in engine.servers}
    steps = dict(boundaries(scenario, seed))
    events = {event.at for event in scenario.events}
    with _hand(policy, scenario, engine, steer) as hand:
        stops = _grid(start, scenario.seconds, SECOND) | events | steps.keys()
        ticks = _grid(start, scenario.seconds, hand.interval) if hand.interval else set()
        factor = steps.get(start, 1.0)
        for at in sorted(stops | ticks):
            rates = scenario.demands(scenario.level(engine.now), factor)
            engine.run(at, rates)
            factor = steps.get(at, factor)
            if at in events:
                for event in scenario.events:
                    if event.at == at:
                        if event.upstream is not None:
                            engine.become(event.upstream, scenario.condition(event.upstream, at))
                        if event.telemetry is not None:
                            hand.lose(event.telemetry == "lost")
                hand.happen()
            if at in ticks:
                await hand.tick()
            if at in stops:
                await hand.look()
                times.append(at)
                paid.append(sum(price * engine.meters[n].came for n, price in prices.items()))
                for name, server in engine.servers.items():
                    arrived[name].append(server.arrived)
        engine.run(scenario.seconds + PATIENCE, {})
        engine.close()
        thought = getattr(hand, "seconds", [])
    status = np.array(engine.status, dtype=np.int64)
    run = Run(
        due=np.array(engine.due),
        latency=np.array(engine.latency),
        status=status,
        overloaded=(status == OVERLOADED).astype(np.int64),
        times=times,
        arrived=arrived,
        moves=moves,
        paid=paid if prices else (),
        ticks=thought,
    )
    return run, engine.entered


def _grid(start: float, end: float, step: float) -> set[float]:
    """From one step after `start`."""
    return {start + k * step for k in range(1, int((end - start) / step) + 1)}


def _moved(before: Plan, after: Plan, scenario: Scenario) -> float:
    """Share of the entering traffic that changes its cluster."""
    moved = 0.0
    for name, path in scenario.paths.items():
        old, new = before.weights[name], after.weights[name]
        moved += 0.5 * path.share * sum(abs(new[way] - old[way]) for way in path.ways)
    return moved


def _hand(
    policy: str, scenario: Scenario, engine: Engine, steer: Callable[[Steering], None]
) -> AbstractContextManager[Hand]:
    match policy:
        case "Eigenmesh":
            return Eigenmesh(scenario, engine, steer)
        case "L3's rule":
            return _Rule(scenario, engine, steer)
        case "oracle" | "endpoint weights":
            return _Oracle(scenario, engine, steer, endpoints=policy != "oracle")
        case "equal":
            return _Static(steer, policies.equal(scenario))
        case "proportional":
            return _Static(steer, policies.proportional(scenario))
        case "greedy":
            return _Static(steer, policies.greedy(scenario, 0.0))
        case "local only":
            return _Static(steer, policies.local(scenario))
        case "least request":
            return _Static(steer, policies.least_request(scenario, 2))
        case "least request of 10":
            return _Static(steer, policies.least_request(scenario, 10))
    raise ValueError(policy)


class _Static(AbstractContextManager["_Static"]):
    """Steers once."""

    interval: float | None = None

    def __init__(self, steer: Callable[[Steering], None], steering: Steering) -> None:
        steer(steering)

    async def tick(self) -> None: ...

    async def look(self) -> None: ...

    def lose(self, lost: bool) -> None: ...

    def happen(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Oracle(_Static):
    """Knows at once what has happened."""

    def __init__(
        self,
        scenario: Scenario,
        engine: Engine,
        steer: Callable[[Steering], None],
        *,
        endpoints: bool,
    ) -> None:
        self._scenario, self._engine, self._steer = scenario, engine, steer
        self._endpoints = endpoints
        self.happen()

    def happen(self) -> None:
        now = self._engine.now
        self._steer(policies.oracle(self._scenario, now, endpoints=self._endpoints))


class _Rule(_Static):
    def __init__(
        self, scenario: Scenario, engine: Engine, steer: Callable[[Steering], None]
    ) -> None:
        self._rule = policies.L3Rule(scenario)
        self.interval = self._rule.interval
        self._view = View(engine, EPOCH, quantiles=False)
        self._engine, self._steer = engine, steer
        steer(self._rule.steering)

    async def tick(self) -> None:
        before = self._rule.steering
        after = self._rule.update(await self._view.observe(EPOCH + self._engine.now))
        if after != before:
            self._steer(after)

    def lose(self, lost: bool) -> None:
        self._view.lost = lost


class _Classical:
    """The classical solvers, in this process."""

    async def solve(self, problem: Problem, timeout: float) -> Solution:
        return portfolio.solve(problem)


class Eigenmesh(_Static):
    """The real loop over simulated scrapes. seconds: that each tick took."""

    def __init__(
        self, scenario: Scenario, engine: Engine, steer: Callable[[Steering], None]
    ) -> None:
        self.interval = scenario.interval
        self.seconds: list[float] = []
        self._engine, self._steer = engine, steer
        self._folder = tempfile.TemporaryDirectory(prefix="eigenmesh-twin-")
        self._journal = Journal(File(self._folder.name) / "journal.sqlite")
        topology, guard = scenario.topology, scenario.guard
        plan = Plan.equal(topology)
        self._journal.put_originals(plan, "twin")
        self._view = View(engine, EPOCH)
        self._glance = View(engine, EPOCH, quantiles=False)
        metrics = Metrics()
        self._storm = Storm(guard.storm)
        self._fast = None
        if guard.fast.enabled and scenario.interval > SECOND:
            self._fast = FastGuard(guard.fast)
            self._fast.tune(
                guard.fast,
                slo=scenario.objective.slo,
                min_limit=guard.min_limit,
                max_age=guard.max_age,
            )
        self.loop = ControlLoop(
            LoopSettings(
                topology,
                scenario.objective,
                guard,
                scenario.interval,
                10.0,
                "classical",
                "twin",
            ),
            plan=plan,
            controls=Controls(Mode.AUTO),
            number=0,
            source=self._view,
            estimator=CoupledEstimator(topology),
            solver=_Classical(),
            journal=self._journal,
            push=self._push,
            metrics=metrics,
            storm=self._storm,
            fast=self._fast,
            clock=self._clock,
        )
        self._between = None
        if self._fast is not None:
            self._between = FastLoop(
                self._fast,
                self.loop,
                self._glance,
                interval=SECOND,
                serve=lambda: self._push(self.loop.plan),
                metrics=metrics,
                clock=self._clock,
            )
        self._push(plan)

    def _clock(self) -> float:
        return EPOCH + self._engine.now

    def _push(self, plan: Plan) -> None:
        lowered = self._storm.over(plan)
        if self._fast is not None:
            lowered = self._fast.over(lowered)
        self._steer(Steering(lowered))

    async def tick(self) -> None:
        began = time.perf_counter()
        await self.loop.tick()
        self.seconds.append(time.perf_counter() - began)

    async def look(self) -> None:
        if self._between is None:
            return
        self._between.look(await self._glance.observe(self._clock()))
        if self.loop._hurried.is_set():
            self.loop._hurried.clear()
            await self.tick()

    def lose(self, lost: bool) -> None:
        self._view.lost = self._glance.lost = lost

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._journal.close()
        self._folder.cleanup()
