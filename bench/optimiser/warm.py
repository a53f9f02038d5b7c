"""QAOA that leans toward the plan in force, against QAOA that does not.

    python -m bench.optimiser.warm

The incumbent is the optimum of the mesh as it was: costs (1 - a) A + a B of two instances of a
family, of which the incumbent solves A. From a = 0.15 (the mesh has changed a little) to a = 1 (it
is another mesh). Exact probabilities, no shots; the shipped angles, which were trained cold.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.optimiser.families import instances
from eigenmesh.optimize.angles import load
from eigenmesh.optimize.circuits.operations import tilted
from eigenmesh.optimize.statevector import phase, product, rotate_about
from eigenmesh.optimize.training import near_optimal, standardised

FAMILIES = ("smooth", "cliff", "glass", "mesh")
CHANGES = (0.15, 0.3, 0.6, 1.0)
TILTS = (0.0, 0.1, 0.2, 0.4)
LAYERS = (1, 3, 10)
CLUSTERS = 5
SHOTS = 256
SEED = 20_261_125


def success(costs: np.ndarray, start: int, tilt: float, layers: int) -> float:
    """Probability of a sample within 1% of the optimum."""
    angles = load(layers)
    turns = tilted(start, costs.size.bit_length() - 1, tilt)
    psi = product(turns)
    for gamma, beta in zip(angles.gammas.tolist(), angles.betas.tolist(), strict=True):
        psi = rotate_about(phase(psi, gamma, costs), beta, turns)
    return float((np.abs(psi) ** 2)[near_optimal(costs)].sum())


def measure(count: int) -> list[dict[str, Any]]:
    records = []
    for family in FAMILIES:
        before, after = (
            standardised(instances(family, count, CLUSTERS, SEED + k)) for k in range(2)
        )
        for change in CHANGES:
            for old, new in zip(before, after, strict=True):
                costs = standardised((1.0 - change) * old + change * new)
                start = int(old.argmin())
                record: dict[str, Any] = {
                    "family": family,
                    "change": change,
                    "incumbent": bool(near_optimal(costs)[start]),
                }
                for layers in LAYERS:
                    for tilt in TILTS:
                        record[f"p{layers} {tilt}"] = success(costs, start, tilt, layers)
                records.append(record)
    return records


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        f"Probability of one sample within 1% of the optimum (geometric mean), and of one among "
        f"{SHOTS}, by how far the circuit leans toward the incumbent (quarter turns).",
        "",
        "| family | change | incumbent good | layers | "
        + " | ".join(f"tilt {tilt:g}" for tilt in TILTS)
        + " |",
        "|---" * (4 + len(TILTS)) + "|",
    ]
    for family in FAMILIES:
        for change in CHANGES:
            own = [r for r in records if (r["family"], r["change"]) == (family, change)]
            good = float(np.mean([r["incumbent"] for r in own]))
            for layers in LAYERS:
                cells = []
                for tilt in TILTS:
                    p = np.array([r[f"p{layers} {tilt}"] for r in own])
                    mean = np.exp(np.log(np.maximum(p, 1e-12)).mean())
                    cells.append(f"{mean:.3f}, {(1.0 - (1.0 - p) ** SHOTS).mean():.1%}")
                lines.append(
                    f"| {family} | {change:g} | {good:.0%} | {layers} | {' | '.join(cells)} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=100, help="a family and change")
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
