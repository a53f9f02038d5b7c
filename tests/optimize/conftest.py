"""Meshes to solve: the demo's, and seeded random ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eigenmesh.mesh import Cluster, LatencyCurve, Plan, Route, Topology
from eigenmesh.optimize.problem import Problem

MakeMesh = Callable[..., Problem]


def _mesh(
    clusters: int,
    routes: int,
    seed: int,
    *,
    load: float = 0.7,
    subsets: bool = False,
    **options: Any,
) -> Problem:
    """Capacities over a factor of ten, demand `load` of them, equal weights as the incumbent."""
    rng = np.random.default_rng(seed)
    names = [f"c{k}" for k in range(clusters)]
    capacity = 100.0 * 2.0 ** rng.uniform(0.0, 3.0, clusters)
    t0 = rng.uniform(0.01, 0.04, clusters)
    found = []
    for r in range(routes):
        chosen = sorted(rng.permutation(clusters)[: rng.integers(2, clusters + 1)])
        used = [names[k] for k in chosen] if subsets else names
        found.append(Route(f"r{r}", tuple(used)))
    topology = Topology(
        tuple(Cluster(name, egress_cost=0.001 * (k % 2)) for k, name in enumerate(names)),
        tuple(found),
    )
    steered = sum(c for n, c in zip(names, capacity, strict=True) if n in topology.steered_clusters)
    share = rng.dirichlet(np.full(routes, 3.0))
    return Problem(
        topology,
        {f"r{r}": float(load * steered * share[r]) for r in range(routes)},
        {n: LatencyCurve(float(t), float(c)) for n, t, c in zip(names, t0, capacity, strict=True)},
        Plan.equal(topology),
        **options,
    )


def _demo(**options: Any) -> Problem:
    names = ("large", "medium", "small")
    topology = Topology(tuple(map(Cluster, names)), (Route("a", names), Route("b", names)))
    curves = {n: LatencyCurve(0.02, c) for n, c in zip(names, (400.0, 200.0, 100.0), strict=True)}
    return Problem(topology, {"a": 245.0, "b": 245.0}, curves, Plan.equal(topology), **options)


@pytest.fixture(scope="session")
def make_mesh() -> MakeMesh:
    return _mesh


@pytest.fixture(scope="session")
def make_demo() -> MakeMesh:
    return _demo
