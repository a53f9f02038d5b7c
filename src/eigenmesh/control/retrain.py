"""QAOA angles for this mesh, from the blocks of rungs that its journal's decisions had to solve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigenmesh.control.journal import Journal
from eigenmesh.control.proposal import with_default_limits
from eigenmesh.control.settings import Settings
from eigenmesh.mesh import Decision, MeshError
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import VERSION, load
from eigenmesh.optimize.decomposition import partition
from eigenmesh.optimize.encoding import bits
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.tables import block_costs
from eigenmesh.optimize.training import evolve, near_optimal, standardised, train

FAMILY = "journal"
MOST_QUBITS = 12
"""Larger blocks take minutes to train on, and angles carry over from smaller ones."""
_ALIKE = 1e-3
"""Difference, in standard deviations, below which two blocks teach the same."""


@dataclass(frozen=True)
class Retrained:
    """table: what `circuits.angles` reads. blocks: how many it was trained on. before, after: mean
    probability of one sample within 1% of the optimum, with the shipped angles and with these."""

    table: dict[str, Any]
    blocks: int
    decisions: int
    before: float
    after: float


def retrain(
    journal: Journal, settings: Settings, layers: int, *, decisions: int = 200, most: int = 200
) -> Retrained:
    """Trains on up to `most` different blocks of the newest `decisions`. A minute or so.

    Raises MeshError if there are none: decisions without curves say nothing, nor do blocks whose
    rungs are all as good.
    """
    found: list[Array] = []
    read = 0
    for decision in _newest(journal, decisions):
        read += 1
        for table in _blocks(decision, settings):
            if len(found) < most and not any(
                one.size == table.size and np.abs(one - table).max() < _ALIKE for one in found
            ):
                found.append(table)
    if not found:
        raise MeshError(
            "journal",
            f"{read} decisions, none with blocks to learn from",
            "let Eigenmesh run until it decides (observe will do), then train",
        )
    sizes = sorted({one.size for one in found})
    batches = [np.stack([one for one in found if one.size == size]) for size in sizes]
    shipped = load(layers)
    trained = train(batches, layers, start=(shipped.gammas, shipped.betas))
    entry = {
        "gammas": trained.gammas.round(6).tolist(),
        "betas": trained.betas.round(6).tolist(),
        "score": round(trained.score, 4),
    }
    return Retrained(
        {"version": VERSION, "families": {FAMILY: {str(layers): entry}}},
        len(found),
        read,
        _success(batches, shipped.gammas, shipped.betas),
        _success(batches, trained.gammas, trained.betas),
    )


def _newest(journal: Journal, count: int) -> Iterator[Decision]:
    for row in journal.page(count):
        decision = journal.decision(row.number)
        if decision is not None:
            yield decision


def _blocks(decision: Decision, settings: Settings) -> Iterator[Array]:
    topology = settings.topology
    seen, curves = decision.observation, decision.curves
    if seen is None or any(name not in curves for name in topology.steered_clusters):
        return
    plan = with_default_limits(decision.plan, topology)
    try:
        problem = Problem(
            topology,
            {route.name: seen.demands.get(route.name, 0.0) for route in topology.routes},
            {name: curves[name].curve for name in topology.steered_clusters},
            plan,
            settings.objective,
            settings.guard,
        )
    except MeshError:
        return  # of another mesh, or without traffic
    objective = Objective(problem)
    width = bits(objective.levels)
    if not width:
        return
    w = objective.weights_of(plan)
    for block in partition(objective.coupling(w), max(1, MOST_QUBITS // width)):
        table = block_costs(objective, w, block, objective.initial_rungs)
        if table.std() > 1e-9 * abs(table.mean()):
            yield standardised(table)


def _success(batches: list[Array], gammas: Array, betas: Array) -> float:
    hits = [
        (np.abs(evolve(costs, gammas, betas)) ** 2 * near_optimal(costs)).sum(axis=1)
        for costs in batches
    ]
    return float(np.concatenate(hits).mean())
