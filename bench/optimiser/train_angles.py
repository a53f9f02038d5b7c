"""Train the QAOA angles that Eigenmesh ships.

    make train-angles

One vector of angles a depth, 1 to 10, for each family of small instances (`families`) and for their
mixture: four to six clusters on a ladder of four rungs, Gray-coded into 8 to 12 qubits. A depth
starts from the schedule of the one before it. The test instances come from other seeds; what is
kept of them is the mean probability that the best of 256 samples lies within 1% of the optimum, on
the way to it from the mean. Takes some minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from bench.optimiser.families import FAMILIES, instances
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import VERSION
from eigenmesh.optimize.training import evolve, near_optimal, train

SHOTS = 256


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
    default = Path(__file__).parents[2] / "src/eigenmesh/optimize/data/angles.json"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--layers", type=int, default=10, help="largest depth")
    parser.add_argument("--count", type=int, default=40, help="instances per family and size")
    parser.add_argument("--steps", type=int, default=150)
    arguments = parser.parse_args()
    batches = {f: [instances(f, arguments.count, n, 0) for n in (4, 5, 6)] for f in FAMILIES}
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
