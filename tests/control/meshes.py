"""A simulated mesh under the real loop: three clusters of queues, demand that comes and goes."""

from __future__ import annotations

import math
import random

from eigenmesh.control.clock import Clock
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
    """Latencies of `CURVES` under `plan`, off by some percent.

    period: seconds, of the demand; 0: it is constant. demand: its mean, requests/s.
    """

    def __init__(
        self,
        seed: int = 1,
        interval: float = INTERVAL,
        period: float = 60.0,
        demand: float = 350.0,
    ) -> None:
        self.plan = Plan.equal(TOPOLOGY)
        self._interval = interval
        self._period = period
        self._demand = demand
        self._chance = random.Random(seed)

    async def observe(self, now: float) -> Observation:
        swing = math.sin(2.0 * math.pi * now / self._period) if self._period else 0.0
        demand = self._demand * (1.0 + 3.0 / 7.0 * swing)
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
        return Observation(now, self._interval, seen, {"shop": demand}, source="simulated")

    async def close(self) -> None: ...


class Inline:
    """The real solvers, in this process."""

    async def solve(self, problem: Problem, timeout: float) -> Solution:
        return portfolio.solve(problem)


class Simulation:
    """A loop over the queues, with the classical solvers.

    now: the wall clock, which a test may set. pushed: when (by the steady clock), and what.
    """

    def __init__(
        self,
        journal: Journal,
        guard: GuardPolicy | None = None,
        source: Queues | None = None,
        interval: float = INTERVAL,
        mode: Mode = Mode.AUTO,
    ) -> None:
        self.interval = interval
        source = source or Queues(interval=interval)
        journal.put_originals(source.plan, "mesh-1")
        self.now = self.steady = 1_000_000.0
        self.pushed: list[tuple[float, Plan]] = []
        clock = Clock(lambda: self.now, lambda: self.steady)

        def push(plan: Plan) -> None:
            source.plan = plan
            self.pushed.append((self.steady, plan))

        self.loop = ControlLoop(
            LoopSettings(
                TOPOLOGY,
                ObjectivePolicy(),
                guard or GuardPolicy(),
                interval,
                5.0,
                "classical",
                "mesh-1",
            ),
            plan=source.plan,
            controls=Controls(mode),
            number=0,
            source=source,
            estimator=CoupledEstimator(TOPOLOGY),
            solver=Inline(),
            journal=journal,
            push=push,
            metrics=Metrics(),
            clock=clock,
        )
        clock.on_jump(self.loop.shift)

    async def tick(self) -> Decision:
        """The next one, an interval later."""
        self.now += self.interval
        self.steady += self.interval
        return await self.loop.tick()
