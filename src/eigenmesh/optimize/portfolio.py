"""All solvers on one problem; the better plan under the objective wins.

Weights are decided for the limits at hand, then limits for those weights, and once more if the
limits moved. Each time the solvers of the `solver` setting start from the same place and are judged
by the same J. An answer replaces what is there only if it is better, so J falls monotonically and
the plan that leaves is never worse than the incumbent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from eigenmesh.mesh import Candidate, Cluster, LatencyCurve, Plan, Route, Topology
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Answer, Rungs, Weights
from eigenmesh.optimize.classical.rungs import EXHAUSTIVE_LIMIT, blocks, exhaustive
from eigenmesh.optimize.classical.weights import SLSQP_LIMIT, newton, slsqp
from eigenmesh.optimize.encoding import Ints
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.optimize.starts import SEVERAL, is_crowded, starts

ROUNDS = 2
_FEASIBLE = 1e-6
TIE = 1e-6
"""Relative difference of the objective below which two answers are equally good."""

T = TypeVar("T")


def solve(problem: Problem) -> Solution:
    """The best plan found. It computes for 20 ms to seconds: call it through `worker`."""
    search = _Search(problem)
    for number in range(1, ROUNDS + 1):
        before = search.rungs
        search.decide_weights(number)
        search.decide_rungs(number)
        if np.array_equal(before, search.rungs):
            break  # the weights were made for these very limits
    return search.solution()


def warm_up() -> None:
    """Imports and runs everything once, so that the first decision is as fast as the others."""
    topology = Topology((Cluster("a"), Cluster("b")), (Route("r", ("a", "b")),))
    curves = {"a": LatencyCurve(0.01, 200.0), "b": LatencyCurve(0.02, 100.0)}
    solve(Problem(topology, {"r": 150.0}, curves, Plan.equal(topology)))


@dataclass(frozen=True)
class _Entrant(Generic[T]):
    solver: str
    run: Callable[[], Answer[T]]


def _best(judge: Callable[[T], float], answers: Sequence[Answer[T]]) -> Answer[T]:
    """The best of one solver's answers from several starts, with the evaluations of all."""
    best = min(answers, key=lambda answer: judge(answer.value))
    spent = sum(float(answer.detail["evaluations"]) for answer in answers)
    return replace(
        best, detail={**best.detail, "evaluations": spent, "starts": float(len(answers))}
    )


class _Search:
    """What has been decided so far, and every solver's answer."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.objective = Objective(problem)
        self.w: Array = self.objective.project(self.objective.initial)
        self.rungs: Ints = self.objective.initial_rungs
        self.candidates: list[Candidate] = []

    def decide_weights(self, number: int) -> None:
        objective, problem = self.objective, self.problem
        limits = objective.limits_at(self.rungs)

        def judge(w: Array) -> float:
            return float(objective.evaluate(w, limits))

        # One valley is left for the second round: the limits moved, the choice stands.
        crowded = is_crowded(objective)
        several = number == 1 and crowded
        first = starts(objective, self.w, limits, SEVERAL if several else 1)

        def circuit() -> Weights:
            from eigenmesh.optimize.circuits.weights import born_machine

            each = replace(problem.circuits, seconds=problem.circuits.seconds / len(first))
            return _best(
                judge, [born_machine(objective, limits, w, each, problem.seed) for w in first]
            )

        # Many valleys, or couplings that Newton's model leaves out: SLSQP learns of both.
        hard = crowded or objective.calls.depth or not objective.separable
        method = slsqp if hard and objective.initial.size <= SLSQP_LIMIT else newton

        def classical() -> Weights:
            return _best(judge, [method(objective, limits, w) for w in first])

        rival = _Entrant(method.__name__, classical)
        self.w = self._contest(
            "weights", number, self.w, judge, _Entrant("born-machine", circuit), rival
        )

    def decide_rungs(self, number: int) -> None:
        objective, problem, w, start = self.objective, self.problem, self.w, self.rungs

        def judge(rungs: Ints) -> float:
            return float(objective.evaluate_rungs(w, rungs[None])[0])

        def circuit() -> Rungs:
            from eigenmesh.optimize.circuits.rungs import sampled_rungs

            return sampled_rungs(objective, w, start, problem.circuits, problem.seed)

        if objective.levels ** len(objective.clusters) <= EXHAUSTIVE_LIMIT:
            rival = _Entrant("exhaustive", lambda: exhaustive(objective, w))
        else:
            rival = _Entrant("blocks", lambda: blocks(objective, w, start, seed=problem.seed))
        self.rungs = self._contest(
            "limits",
            number,
            self.rungs,
            judge,
            _Entrant(problem.circuits.algorithm, circuit),
            rival,
        )

    def _contest(
        self,
        part: str,
        number: int,
        current: T,
        judge: Callable[[T], float],
        circuit: _Entrant[T],
        rival: _Entrant[T],
    ) -> T:
        """The best of the solvers' answers and of what there is; ties go to what there is, then
        to the classical one."""
        standing = judge(current)
        found: list[tuple[Candidate, T]] = []

        def enter(entrant: _Entrant[T]) -> bool:
            started = time.perf_counter()
            detail: dict[str, float | str] = {"round": number}
            value, objective, well = current, standing, True
            try:
                answer = entrant.run()
            except Exception as error:
                # Whatever a plugin or a solver raises: the tick goes on with the other's answer.
                detail["error"] = f"{type(error).__name__}: {error}"
                well = False
            else:
                value, objective = answer.value, judge(answer.value)
                detail |= answer.detail
            seconds = time.perf_counter() - started
            found.append(
                (Candidate(part, entrant.solver, objective, seconds, False, detail), value)
            )
            return well

        mode = self.problem.solver
        well = mode != "classical" and enter(circuit)
        if mode != "variational" or not well:
            enter(rival)
        # To a millionth the two agree on most meshes. Such a tie is not the circuit's victory:
        # it goes to the classical solver, which is the cheaper of the two.
        winner, value = found[-1]
        for candidate, answer in found:
            if candidate.objective < winner.objective * (1.0 - TIE):
                winner, value = candidate, answer
        self.candidates += [candidate for candidate, _ in found]
        if not winner.objective < standing:
            return current
        # Only the last answer that was taken is in the plan.
        self.candidates = [
            replace(c, won=c is winner) if c.part == part else c for c in self.candidates
        ]
        return value

    def solution(self) -> Solution:
        objective, incumbent = self.objective, self.problem.incumbent
        plan = objective.plan(self.w, objective.limits_at(self.rungs))
        value, standing = objective.of_plan(plan), objective.of_plan(incumbent)
        candidates = self.candidates
        allowed = np.abs(objective.initial - objective.project(objective.initial)).max()
        if standing <= value and allowed <= _FEASIBLE:
            plan, value = incumbent, standing
            candidates = [replace(c, won=False) for c in candidates]
        return Solution(plan, value, standing, objective.predicted_latency(plan), tuple(candidates))
