"""QAOA that leans toward the plan in force, against QAOA that does not.

    python -m bench.optimiser.warm

By where the incumbent comes from:
mix A      The optimum of the mesh as it was: costs (1 - A) old + A new of two instances of a
           family, of which it solves the old. From 0.15 (little changed) to 1 (another mesh).
demand xA  The optimum at other demands, of the optimiser's own cost: now they are A times those.
greedy     Where a greedy descent from a random state ends; "stuck" are those of them that are not
           within 1% of the optimum: where a circuit has something left to find.
Exact probabilities, no shots; the shipped angles, which were trained cold.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.optimiser.families import instances, problem
from bench.optimiser.rivals import greedy
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import load
from eigenmesh.optimize.circuits.operations import tilted
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem
from eigenmesh.optimize.statevector import phase, product, rotate_about
from eigenmesh.optimize.training import near_optimal, standardised

FAMILIES = ("smooth", "cliff", "glass", "mesh")
CHANGES = (0.15, 0.3, 0.6, 1.0)
DEMANDS = (0.7, 0.8, 0.9, 1.1, 1.2, 1.3)
TILTS = (0.0, 0.1, 0.2, 0.4)
LAYERS = (1, 3, 6, 10)
CLUSTERS = 5
SHOTS = 256
SEED = 20_261_125


def success(costs: Array, start: int, tilt: float, layers: int) -> float:
    """Probability of a sample within 1% of the optimum."""
    angles = load(layers)
    turns = tilted(start, costs.size.bit_length() - 1, tilt)
    psi = product(turns)
    for gamma, beta in zip(angles.gammas.tolist(), angles.betas.tolist(), strict=True):
        psi = rotate_about(phase(psi, gamma, costs), beta, turns)
    return float((np.abs(psi) ** 2)[near_optimal(costs)].sum())


def _costs(mesh: Problem) -> Array:
    objective = Objective(mesh)
    clusters = range(len(objective.clusters))
    return objective.diagonal(objective.initial, clusters, objective.initial_rungs)


def _demands(change: float, count: int) -> Iterator[tuple[Array, int]]:
    """Costs at the present demands, and the optimum at those before; the drawn are the higher."""
    rng = np.random.default_rng([SEED, 2])
    while count:
        mesh = problem(rng, CLUSTERS)
        most = max(1.0, change)
        before, after = (
            _costs(replace(mesh, demands={"r": mesh.demands["r"] * share / most}))
            for share in (1.0, change)
        )
        if min(before.std(), after.std()) > 1e-9:
            count -= 1
            yield standardised(after), int(before.argmin())


def cases(family: str, count: int) -> Iterator[tuple[str, Array, int]]:
    """Where the incumbent comes from, the costs, and its state."""
    before, after = (instances(family, count, CLUSTERS, SEED + k) for k in range(2))
    for change in CHANGES:
        for old, new in zip(before, after, strict=True):
            yield f"mix {change:g}", standardised((1.0 - change) * old + change * new), old.argmin()
    if family == "mesh":
        for change in DEMANDS:
            for costs, start in _demands(change, count):
                yield f"demand x{change:g}", costs, start
    rng = np.random.default_rng([SEED, 3])
    found = [(costs, greedy(costs, int(rng.integers(costs.size)))) for costs in after]
    for costs, start in found:
        yield "greedy", costs, start
    for costs, start in found:
        if not near_optimal(costs)[start]:
            yield "greedy, stuck", costs, start


def measure(count: int) -> list[dict[str, Any]]:
    records = []
    for family in FAMILIES:
        for origin, costs, start in cases(family, count):
            record: dict[str, Any] = {
                "family": family,
                "incumbent": origin,
                "good": bool(near_optimal(costs)[start]),
            }
            for layers in LAYERS:
                for tilt in TILTS:
                    record[f"p{layers} {tilt}"] = success(costs, int(start), tilt, layers)
            records.append(record)
    return records


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        f"Probability of one sample within 1% of the optimum (geometric mean), and of one among "
        f"{SHOTS}, by how far the circuit leans toward the incumbent (quarter turns).",
        "",
        "| family | incumbent | good | layers | "
        + " | ".join(f"tilt {tilt:g}" for tilt in TILTS)
        + " |",
        "|---" * (4 + len(TILTS)) + "|",
    ]
    for family, origin in dict.fromkeys((r["family"], r["incumbent"]) for r in records):
        own = [r for r in records if (r["family"], r["incumbent"]) == (family, origin)]
        good = float(np.mean([r["good"] for r in own]))
        for layers in LAYERS:
            cells = []
            for tilt in TILTS:
                p = np.array([r[f"p{layers} {tilt}"] for r in own])
                mean = np.exp(np.log(np.maximum(p, 1e-12)).mean())
                cells.append(f"{mean:.3f}, {(1.0 - (1.0 - p) ** SHOTS).mean():.1%}")
            lines.append(f"| {family} | {origin} | {good:.0%} | {layers} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=100, help="a family and incumbent")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    options = parser.parse_args()
    records = measure(options.instances)
    text = table(records)
    rounded = [
        {k: round(v, 6) if isinstance(v, float) else v for k, v in r.items()} for r in records
    ]
    (options.out / "optimiser_warm.json").write_text(json.dumps(rounded) + "\n")
    (options.out / "optimiser_warm.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
