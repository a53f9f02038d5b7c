"""Envoy's retries in the objective: what they add to a load, and what comes of knowing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eigenmesh.mesh import Cluster, LatencyCurve, MeshError, Plan, Retries, Route, Topology
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.portfolio import solve
from eigenmesh.optimize.problem import Problem

Make = Callable[..., Problem]


def pair(retries: Retries, demand: float, failures: dict[str, float] | None = None) -> Problem:
    """Two clusters alike, the first of which has too much."""
    names = ("one", "next")
    topology = Topology(tuple(map(Cluster, names)), (Route("r", names, retries),))
    curves = dict.fromkeys(names, LatencyCurve(0.02, 200.0))
    incumbent = Plan({"r": {"one": 0.65, "next": 0.35}}, {})
    return Problem(
        topology, {"r": demand}, curves, incumbent, solver="classical", failures=failures or {}
    )


def use(problem: Problem, plan: Plan) -> dict[str, float]:
    """What each cluster has to do, over what it can, with all attempts."""
    objective = Objective(problem)
    load, limits = objective.loads(objective.weights_of(plan)), objective.limits_of(plan)
    load, *_ = objective.queues.with_retries(load, load, limits, slice(None))
    return dict(zip(objective.clusters, (load / objective.capacity).tolist(), strict=True))


def test_an_attempt_fails_by_itself_or_by_its_timeout() -> None:
    objective = Objective(pair(Retries(2, 0.1), 100.0, {"one": 0.5}))
    tries, lost = objective.queues.retrying.of(np.array([0.05, 0.05]))
    late = np.exp(-2.0)
    f = np.array([0.5 + 0.5 * late, late])
    assert lost == pytest.approx(f**3)
    assert tries == pytest.approx([1.25, 1 + late + late**2]), "the budget bounds the first"


def test_without_retries_and_failures_nothing_changes(make_mesh: Make) -> None:
    assert Objective(make_mesh(4, 2, 1)).queues.retrying.none
    assert not Objective(pair(Retries(1), 100.0)).queues.retrying.none


def test_relieving_one_cluster_does_not_drown_the_next() -> None:
    """A quarter of the attempts at the next one fails and is made again. A plan that does not count
    them relieves the one by filling the other."""
    aware = pair(Retries(2), 340.0, {"next": 0.25})
    unaware = replace(aware, failures={})
    filled, relieved = solve(unaware).plan, solve(aware).plan
    assert use(aware, aware.incumbent)["one"] > 1.0
    assert use(aware, filled)["next"] > 1.0
    assert max(use(aware, relieved).values()) < 1.0
    assert Objective(aware).of_plan(relieved) < Objective(aware).of_plan(filled)


def test_a_timeout_near_the_latency_counts() -> None:
    """The more a cluster has to do, the more of its attempts come too late."""
    patient, hasty = pair(Retries(2, 1.0), 300.0), pair(Retries(2, 0.1), 300.0)
    assert use(patient, patient.incumbent)["one"] == pytest.approx(0.975, rel=1e-2)
    assert use(hasty, hasty.incumbent)["one"] > 1.15
    assert use(hasty, hasty.incumbent)["next"] < 1.02 * use(patient, patient.incumbent)["next"]


def test_traffic_leaves_a_cluster_that_fails() -> None:
    """However fast its errors are."""
    even = solve(pair(Retries(), 100.0)).plan.weights["r"]["next"]
    failing = solve(pair(Retries(), 100.0, {"next": 0.5})).plan.weights["r"]["next"]
    assert failing < 0.1 < even


@pytest.mark.parametrize(("most", "timeout", "field"), [(-1, None, "most"), (1, 0.0, "per_try")])
def test_retries_that_make_no_sense_are_refused(
    most: int, timeout: float | None, field: str
) -> None:
    with pytest.raises(MeshError, match=rf"retries\.{field}"):
        Retries(most, timeout)
