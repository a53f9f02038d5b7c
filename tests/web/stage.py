"""The page before a real loop, journal and solvers; only queues and Envoys are simulated."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eigenmesh.api.subject import Subject
from eigenmesh.control.api_settings import ApiListen
from eigenmesh.control.journal import Journal
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.operations import Operations
from eigenmesh.control.proposal import LoopSettings
from eigenmesh.control.proxies import Proxies
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import (
    Action,
    Cluster,
    ClusterObservation,
    Decision,
    GuardPolicy,
    LatencyCurve,
    ObjectivePolicy,
    Observation,
    Plan,
    Route,
    Topology,
    admitted_latency,
    blocked_fraction,
)
from eigenmesh.optimize import portfolio
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.telemetry.coupled import CoupledEstimator
from eigenmesh.web import HttpServer, Page
from eigenmesh.xds.server import XdsServer

from ..api.stage import envoy

INTERVAL = 2.0


@dataclass(frozen=True)
class Scene:
    """A mesh and its truth. demands: mean requests/s by route, which come and go. worse: cluster ->
    factor of its capacity in the second half of what is simulated."""

    topology: Topology
    curves: Mapping[str, LatencyCurve]
    demands: Mapping[str, float]
    worse: Mapping[str, float] = field(default_factory=dict)
    objective: ObjectivePolicy = field(default_factory=ObjectivePolicy)
    solver: Literal["best", "variational", "classical"] = "classical"


SHOP = Scene(
    Topology(
        (
            Cluster("web-a", host="rack-1"),
            Cluster("web-b", host="rack-2"),
            Cluster("web-spot", host="rack-3"),
            Cluster("cart-a", host="rack-1"),
            Cluster("cart-b", host="rack-2"),
            Cluster("search-a", host="rack-3"),
            Cluster("search-b", host="rack-4"),
        ),
        (
            Route("storefront", ("web-a", "web-b", "web-spot")),
            Route("checkout", ("cart-a", "cart-b")),
            Route("search", ("search-a", "search-b", "web-spot")),
        ),
    ),
    {
        "web-a": LatencyCurve(0.018, 640.0),
        "web-b": LatencyCurve(0.022, 420.0),
        "web-spot": LatencyCurve(0.030, 260.0),
        "cart-a": LatencyCurve(0.035, 210.0),
        "cart-b": LatencyCurve(0.031, 120.0),
        "search-a": LatencyCurve(0.048, 190.0),
        "search-b": LatencyCurve(0.040, 240.0),
    },
    {"storefront": 720.0, "checkout": 190.0, "search": 270.0},
)


def large(clusters: int) -> Scene:
    """Routes of five clusters each, twenty clusters a host."""
    names = [f"cluster-{i}" for i in range(clusters)]
    chance = random.Random(1)
    return Scene(
        Topology(
            tuple(Cluster(name, host=f"host-{i // 20}") for i, name in enumerate(names)),
            tuple(Route(f"route-{i // 5}", tuple(names[i : i + 5])) for i in range(0, clusters, 5)),
        ),
        {name: LatencyCurve(0.01 + 0.03 * chance.random(), 200.0) for name in names},
        {f"route-{i // 5}": 250.0 + 400.0 * chance.random() for i in range(0, clusters, 5)},
    )


class Upstreams:
    """What the scene's queues show under `plan`."""

    def __init__(self, scene: Scene) -> None:
        self.plan = Plan.equal(scene.topology)
        self.broken = False
        self._scene = scene
        self._chance = random.Random(1)

    async def observe(self, now: float) -> Observation:
        chance, scene = self._chance, self._scene
        demands = {
            route: mean * (1.0 + 0.12 * math.sin(now / 40.0 + at) + chance.gauss(0.0, 0.01))
            for at, (route, mean) in enumerate(scene.demands.items())
        }
        return Observation(
            now,
            INTERVAL,
            {name: self._seen(name, load) for name, load in self.plan.loads(demands).items()},
            demands,
            source="simulated",
        )

    def _seen(self, name: str, load: float) -> ClusterObservation:
        curve, limits = self._scene.curves[name], self.plan.limits.get(name)
        capacity = curve.capacity * (self._scene.worse.get(name, 1.0) if self.broken else 1.0)
        most = float(limits.max_requests if limits else 1024)
        blocked = float(blocked_fraction(load, curve.t0, capacity, most))
        mean = float(admitted_latency(load, curve.t0, capacity, most))
        mean *= self._chance.gauss(1.0, 0.03)
        load *= 1.0 - blocked
        return ClusterObservation(
            load=load,
            throughput=load,
            mean=mean,
            in_flight=load * mean,
            quantiles={0.5: 0.7 * mean, 0.99: 3.9 * mean},
            resolutions={0.5: 0.005, 0.99: 0.02},
            breaker_errors=blocked * load / (1.0 - blocked) if blocked < 1.0 else 0.0,
        )

    async def close(self) -> None: ...


class Inline:
    """The real solvers, in this process."""

    async def solve(self, problem: Problem, timeout: float) -> Solution:
        return portfolio.solve(problem)


@dataclass
class Stage:
    """calls: how often each method was answered with each code."""

    loop: ControlLoop
    upstreams: Upstreams
    journal: Journal
    operations: Operations
    clock: list[float]
    calls: Counter[tuple[str, str]]
    subject: Subject
    server: HttpServer
    watchers: Callable[[], int]
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock[0] += INTERVAL
            await self.loop.tick()

    async def look(self) -> None:
        """The next decision, which holds: of meshes of which only the size counts."""
        self.clock[0] += INTERVAL
        seen = await self.upstreams.observe(self.clock[0])
        number = self.loop.latest.number + 1 if self.loop.latest else 1
        why = "nothing is decided here"
        self.loop.latest = Decision(
            number, self.clock[0], Action.HOLD, why, self.loop.plan, observation=seen
        )

    def audit(self) -> list[tuple[str, str]]:
        """(who, action), the oldest first."""
        return [(entry.who, entry.action) for entry in reversed(self.journal.audit())]


@asynccontextmanager
async def serving(
    folder: Path,
    scene: Scene = SHOP,
    *,
    mode: Mode = Mode.AUTO,
    ticks: int = 2,
    listen: str = "127.0.0.1:0",
    nodes: Sequence[str] = ("envoy-1", "envoy-2"),
    **settings: Any,
) -> AsyncIterator[Stage]:
    """settings: of `api`; by default anybody on this machine may do anything."""
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "journal.sqlite")
    upstreams = Upstreams(scene)
    original = upstreams.plan
    journal.put_originals(original, "mesh-1")
    now = [1_700_000_000.0]

    def push(plan: Plan) -> None:
        upstreams.plan = plan

    loop = ControlLoop(
        LoopSettings(
            scene.topology, scene.objective, GuardPolicy(), INTERVAL, 10.0, scene.solver, "mesh-1"
        ),
        plan=original,
        controls=Controls(mode),
        number=0,
        source=upstreams,
        estimator=CoupledEstimator(scene.topology),
        solver=Inline(),
        journal=journal,
        push=push,
        metrics=Metrics(),
        clock=lambda: now[0],
    )
    operations = Operations(loop, journal, original=original)
    envoys = [envoy(name) for name in nodes]
    calls: Counter[tuple[str, str]] = Counter()
    subject = Subject(
        id="shop",
        loop=loop,
        operations=operations,
        journal=journal,
        proxies=Proxies([], XdsServer(), interval=INTERVAL),
        nodes=lambda: envoys,
        connected=lambda: len(envoys),
    )

    def count(method: str, code: str) -> None:
        calls[method, code] += 1

    api = ApiListen.model_validate({"listen": "127.0.0.1:0", **settings})
    page = Page(api, listen, subject, count)
    server = HttpServer(listen, Metrics().registry, lambda: None, page)
    stage = Stage(
        loop, upstreams, journal, operations, now, calls, subject, server, lambda: page.watchers
    )
    stage.port = await server.start()
    try:
        await stage.tick(ticks)
        yield stage
    finally:
        await server.stop()
        journal.close()
