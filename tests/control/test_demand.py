"""What the loop asks the solver to plan for."""

from __future__ import annotations

from pathlib import Path

from eigenmesh.mesh import ClusterObservation, Observation
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.optimize.worker import SolverError

from .loops import smallest_loop

COUNTED = (100.0, 104.0, 97.0, 101.0, 96.0, 103.0, 99.0, 250.0)


class Replay:
    """A source of windows with these demands."""

    def __init__(self) -> None:
        self._left = iter(COUNTED)

    async def observe(self, now: float) -> Observation:
        load = next(self._left)
        seen = ClusterObservation(load=load, throughput=load, mean=0.02, in_flight=2.0)
        return Observation(now, 2.0, {"a": seen}, {"r": load})

    async def close(self) -> None: ...


class Asked:
    """A solver that keeps what it was asked."""

    def __init__(self) -> None:
        self.demands: list[float] = []

    async def solve(self, problem: Problem, timeout: float) -> Solution:
        self.demands.append(problem.demands["r"])
        raise SolverError("solver", "none", "this test has none")


async def test_plans_are_made_for_the_demand_that_is_expected(tmp_path: Path) -> None:
    solver, time = Asked(), iter(range(1000, 2000, 1))
    loop, journal = smallest_loop(tmp_path, Replay(), solver, lambda: float(next(time)))
    for _ in COUNTED:
        await loop.tick()
    assert solver.demands[0] == COUNTED[0]
    assert abs(solver.demands[5] - 100.0) < abs(COUNTED[5] - 100.0), "chance is averaged out"
    assert solver.demands[-1] == COUNTED[-1], "a step is planned for at once"
    journal.close()
