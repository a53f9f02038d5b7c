"""A decision on part of the data says which part is missing."""

from __future__ import annotations

from pathlib import Path

from eigenmesh.mesh import ClusterObservation, Observation
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.optimize.worker import SolverError

from .loops import smallest_loop


class OneProxyOfTwo:
    async def observe(self, now: float) -> Observation:
        seen = ClusterObservation(load=50.0, throughput=50.0, mean=0.02, in_flight=1.0)
        gone = {"10.0.0.2:9901": "newest sample is 20 s old"}
        return Observation(now, 2.0, {"a": seen}, {"r": 50.0}, left_out=gone)

    async def close(self) -> None: ...


class NoSolver:
    async def solve(self, problem: Problem, timeout: float) -> Solution:
        raise SolverError("solver", "none", "this test has none")


async def test_the_reason_names_the_proxies_that_are_left_out(tmp_path: Path) -> None:
    loop, journal = smallest_loop(tmp_path, OneProxyOfTwo(), NoSolver())
    await loop.tick()
    assert loop.latest is not None
    assert loop.latest.why.endswith("; without 10.0.0.2:9901")
    kept = journal.decision(1)
    assert kept is not None
    assert kept.why == loop.latest.why
    journal.close()
