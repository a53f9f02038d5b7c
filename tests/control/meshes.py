"""A simulated mesh under the real loop: three clusters of queues, demand that comes and goes."""

from __future__ import annotations

import math
import random

from eigenmesh.control.journal import Journal
from eigenmesh.control.loop import ControlLoop
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.proposal import LoopSettings
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import (
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
)
from eigenmesh.optimize import portfolio
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.telemetry.coupled import CoupledEstimator

TOPOLOGY = Topology(tuple(map(Cluster, "abc")), (Route("shop", ("a", "b", "c")),))
CURVES = {
    "a": LatencyCurve(0.010, 800.0),
    "b": LatencyCurve(0.012, 400.0),
    "c": LatencyCurve(0.020, 200.0),
}
INTERVAL = 2.0


class Queues:
    """Latencies of `CURVES` under `plan`, off by some percent; demand with a period of a minute."""

    def __init__(self, seed: int = 1) -> None:
        self.plan = Plan.equal(TOPOLOGY)
        self._chance = random.Random(seed)

    async def observe(self, now: float) -> Observation:
        demand = 350.0 + 150.0 * math.sin(2.0 * math.pi * now / 60.0)
        seen = {}
        for name, weight in self.plan.weights["shop"].items():
            load = demand * weight
            mean = float(CURVES[name].latency(load)) * self._chance.gauss(1.0, 0.03)
            seen[name] = ClusterObservation(
                load=load,
                throughput=load,
                mean=mean,
                in_flight=load * mean,
                quantiles={0.5: 0.7 * mean, 0.99: 4.6 * mean},
                resolutions={0.5: 0.005, 0.99: math.inf},
            )
        return Observation(now, INTERVAL, seen, {"shop": demand}, source="simulated")

    async def close(self) -> None: ...


class Inline:
    """The real solvers, in this process."""

    async def solve(self, problem: Problem, timeout: float) -> Solution:
        return portfolio.solve(problem)


class Simulation:
    """A loop over the queues, in mode auto, with the classical solvers."""

    def __init__(self, journal: Journal) -> None:
        source, self.now = Queues(), 1_000_000.0

        def push(plan: Plan) -> None:
            source.plan = plan

        self.loop = ControlLoop(
            LoopSettings(
                TOPOLOGY, ObjectivePolicy(), GuardPolicy(), INTERVAL, 5.0, "classical", "mesh-1"
            ),
            plan=source.plan,
            controls=Controls(Mode.AUTO),
            number=0,
            source=source,
            estimator=CoupledEstimator(TOPOLOGY),
            solver=Inline(),
            journal=journal,
            push=push,
            metrics=Metrics(),
            clock=lambda: self.now,
        )

    async def tick(self) -> Decision:
        """The next one, `INTERVAL` later."""
        self.now += INTERVAL
        return await self.loop.tick()
