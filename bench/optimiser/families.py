"""Blocks of rungs to decide, by family: cost tables of clusters on a ladder of four rungs, Gray-
coded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eigenmesh.mesh import Cluster, LatencyCurve, ObjectivePolicy, Plan, Route, Topology
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.encoding import rungs_of
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.training import standardised

LEVELS = 4
SEED = 20_250_101

Family = Callable[[np.random.Generator, int], Array]


def _rungs(clusters: int) -> Array:
    return rungs_of(np.arange(LEVELS**clusters), clusters, LEVELS).astype(np.float64)


def _hosts(rng: np.random.Generator, clusters: int) -> tuple[Array, Array]:
    """Which clusters share a host (hosts, clusters), and what every state loads each host with."""
    host = rng.integers(0, 2, clusters)
    member = (host == np.arange(2)[:, None]) * rng.uniform(0.5, 1.5, clusters)
    return member, _rungs(clusters) @ member.T


def smooth(rng: np.random.Generator, clusters: int) -> Array:
    """Every cluster gains from a higher rung; sharing a host costs the square of its load."""
    member, load = _hosts(rng, clusters)
    gain = rng.uniform(0.5, 2.0, clusters) * member.sum(axis=0)
    out: Array = 0.15 * (load**2).sum(axis=1) - _rungs(clusters) @ gain * 0.5
    return out


def cliff(rng: np.random.Generator, clusters: int) -> Array:
    """The same, and a step where a host's load passes its objective: not quadratic."""
    base = smooth(rng, clusters)
    _, load = _hosts(rng, clusters)
    edges = rng.uniform(0.3, 0.8, 2) * load.max(axis=0)
    out: Array = base + ((load > edges) * rng.uniform(1.0, 3.0, 2) * base.std()).sum(axis=1)
    return out


def glass(rng: np.random.Generator, clusters: int) -> Array:
    """Couplings of both signs between all pairs, and fields."""
    rungs = _rungs(clusters) - (LEVELS - 1) / 2.0
    pairs = np.triu(rng.normal(size=(clusters, clusters)), 1)
    out: Array = np.einsum("si,ij,sj->s", rungs, pairs, rungs) + rungs @ rng.normal(size=clusters)
    return out


def problem(rng: np.random.Generator, clusters: int) -> Problem:
    """Limits to decide on a mesh of one route, near or beyond its capacity."""
    names = [f"c{k}" for k in range(clusters)]
    capacity = 100.0 * 2.0 ** rng.uniform(0.0, 3.0, clusters)
    topology = Topology(tuple(map(Cluster, names)), (Route("r", tuple(names)),))
    split = capacity / capacity.sum() * rng.uniform(0.6, 1.4, clusters)
    split /= split.sum()
    return Problem(
        topology,
        {"r": float(capacity.sum() * rng.uniform(0.6, 1.1))},
        {
            name: LatencyCurve(float(rng.uniform(0.01, 0.05)), float(c))
            for name, c in zip(names, capacity, strict=True)
        },
        Plan({"r": dict(zip(names, map(float, split), strict=True))}, {}),
        ObjectivePolicy(slo=float(rng.uniform(0.03, 0.15)), spill=float(rng.uniform(0.2, 0.9))),
    )


def mesh(rng: np.random.Generator, clusters: int) -> Array:
    """The optimiser's own cost."""
    objective = Objective(problem(rng, clusters))
    return objective.diagonal(objective.initial, range(clusters), objective.initial_rungs)


FAMILIES: dict[str, Family] = {"smooth": smooth, "cliff": cliff, "glass": glass, "mesh": mesh}


def instances(family: str, count: int, clusters: int, seed: int) -> Array:
    """Cost tables (count, LEVELS^clusters); those without any variation are drawn again."""
    rng = np.random.default_rng([SEED, seed, list(FAMILIES).index(family), clusters])
    found: list[Array] = []
    while len(found) < count:
        costs = FAMILIES[family](rng, clusters)
        if costs.std() > 1e-9:
            found.append(standardised(costs))
    return np.stack(found)


def draw(family: str, clusters: int, number: int) -> Array:
    """One cost table that no training has seen."""
    rng = np.random.default_rng([SEED + 1, list(FAMILIES).index(family), clusters, number])
    while True:
        costs = FAMILIES[family](rng, clusters)
        if costs.std() > 1e-9:
            return standardised(costs)
