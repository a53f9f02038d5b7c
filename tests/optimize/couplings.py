"""Shared hosts and calls at random, for a mesh that has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from eigenmesh.mesh import Call, Host, Plan, Retries, Route, Topology
from eigenmesh.optimize.problem import Problem


def coupled(problem: Problem, seed: int) -> Problem:
    """The same mesh with shared hosts and calls at random; later routes are called by clusters
    that only earlier ones use."""
    rng = np.random.default_rng(seed)
    topology, place = problem.topology, {r.name: i for i, r in enumerate(problem.topology.routes)}
    clusters = []
    for cluster in topology.clusters:
        last = max(
            (place[r.name] for r in topology.routes if cluster.name in r.clusters), default=9
        )
        calls = tuple(
            Call(name, float(rng.uniform(0.1, 0.8)))
            for name, i in place.items()
            if i > last and rng.random() < 0.7
        )
        host = str(rng.choice(["east", "west"])) if rng.random() < 0.8 else None
        clusters.append(replace(cluster, host=host, calls=calls))
    hosts = (Host("east", float(rng.uniform())), Host("west", 1.0))
    return replace(problem, topology=Topology(tuple(clusters), topology.routes, hosts))


def retrying(problem: Problem, seed: int) -> Problem:
    """The same mesh with retries on most routes, and failures of some clusters, at random."""
    rng = np.random.default_rng(seed)
    routes = tuple(
        replace(r, retries=Retries(int(rng.integers(0, 4)), float(rng.uniform(0.02, 0.3))))
        if rng.random() < 0.8
        else r
        for r in problem.topology.routes
    )
    failures = {c: float(rng.uniform(0.0, 0.2)) for c in problem.curves if rng.random() < 0.5}
    return replace(problem, topology=replace(problem.topology, routes=routes), failures=failures)


def calling(problem: Problem, seed: int) -> Problem:
    """`coupled`, with a route of its own for half of the clusters, so that there are calls."""
    topology = problem.topology
    names, routes = topology.cluster_names, topology.routes
    half = len(names) // 2
    split = (
        Route(routes[0].name, names[:half]),
        *(Route(r.name, names[half:]) for r in routes[1:]),
    )
    topology = Topology(topology.clusters, split)
    return coupled(replace(problem, topology=topology, incumbent=Plan.equal(topology)), seed)
