"""Train the QAOA angles that Eigenmesh ships.

    python bench/train_angles.py [--out src/eigenmesh/optimize/data/angles.json]

One vector of angles a depth, 1 to 10, for each family of small instances below and for their
mixture: four or five clusters on a ladder of four rungs, Gray-coded into 8 or 10 qubits. A depth
starts from the schedule of the one before it. The test instances come from other seeds; what is
kept of them is the mean probability that the best of 256 samples lies within 1% of the optimum, on
the way to it from the mean. Takes some minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from eigenmesh.mesh import Cluster, LatencyCurve, ObjectivePolicy, Plan, Route, Topology
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import VERSION
from eigenmesh.optimize.encoding import rungs_of
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.training import evolve, near_optimal, standardised, train

LEVELS = 4
SHOTS = 256
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


def mesh(rng: np.random.Generator, clusters: int) -> Array:
    """The optimiser's own cost: limits of a mesh near or beyond its capacity."""
    names = [f"c{k}" for k in range(clusters)]
    capacity = 100.0 * 2.0 ** rng.uniform(0.0, 3.0, clusters)
    topology = Topology(tuple(map(Cluster, names)), (Route("r", tuple(names)),))
    split = capacity / capacity.sum() * rng.uniform(0.6, 1.4, clusters)
    split /= split.sum()
    problem = Problem(
        topology,
        {"r": float(capacity.sum() * rng.uniform(0.6, 1.1))},
        {
            name: LatencyCurve(float(rng.uniform(0.01, 0.05)), float(c))
            for name, c in zip(names, capacity, strict=True)
        },
        Plan({"r": dict(zip(names, map(float, split), strict=True))}, {}),
        ObjectivePolicy(slo=float(rng.uniform(0.03, 0.15)), spill=float(rng.uniform(0.2, 0.9))),
    )
    objective = Objective(problem)
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


def success(costs: Array, gammas: Array, betas: Array) -> float:
    """Mean probability that the best of SHOTS samples is near-optimal."""
    p = (np.abs(evolve(costs, gammas, betas)) ** 2 * near_optimal(costs)).sum(axis=1)
    return float((1.0 - (1.0 - p) ** SHOTS).mean())


def interpolated(angles: Array) -> Array:
    """Angles of one layer more, on the same schedule: INTERP (L. Zhou et al., Phys. Rev. X 10,
    2020)."""
    p = angles.size
    i = np.arange(p + 1)
    padded = np.concatenate(([0.0], angles, [0.0]))
    out: Array = (i * padded[:-1] + (p - i) * padded[1:]) / p
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parents[1] / "src/eigenmesh/optimize/data/angles.json"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--layers", type=int, default=10, help="largest depth")
    parser.add_argument("--count", type=int, default=40, help="instances per family and size")
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    batches = {f: [instances(f, arguments.count, n, 0) for n in (4, 5)] for f in FAMILIES}
    tests = {f: {n: instances(f, 40, n, 1) for n in (4, 5, 6)} for f in FAMILIES}
    sets = {f: [f] for f in FAMILIES} | {"mixture": list(FAMILIES)}
    families: dict[str, dict[str, object]] = {}
    for family, members in sets.items():
        started = time.perf_counter()
        training = [batch for member in members for batch in batches[member]]
        depths: dict[str, object] = {}
        start: tuple[Array, Array] | None = None
        for layers in range(1, arguments.layers + 1):
            found = train(training, layers, steps=arguments.steps, start=start)
            start = (interpolated(found.gammas), interpolated(found.betas))
            success_on = {
                f"{member}, {2 * n} qubits": round(success(costs, found.gammas, found.betas), 4)
                for member in members
                for n, costs in tests[member].items()
            }
            print(
                f"{family}, p = {layers}: mean log P {found.score:.3f}, {found.evaluations} "
                f"evaluations; best of {SHOTS} within 1%: {min(success_on.values()):.3f} at worst"
            )
            depths[str(layers)] = {
                "gammas": [round(float(x), 6) for x in found.gammas],
                "betas": [round(float(x), 6) for x in found.betas],
                "score": round(found.score, 4),
                "best_of_256_within_1_percent": success_on,
            }
        families[family] = depths
        print(f"{family}: {time.perf_counter() - started:.0f} s", flush=True)
    table = {"version": VERSION, "families": families}
    arguments.out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
