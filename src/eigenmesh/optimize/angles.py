"""The QAOA angles that are shipped: trained once, offline, and used as they are.

`data/angles.json` is written by `bench/optimiser/train_angles.py`. Convention: a layer is
exp(-i gamma C) and then exp(-i beta X) on every qubit, with C the cost minus its mean over its
standard deviation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from eigenmesh.mesh import MeshError
from eigenmesh.mesh.curve import Array

VERSION = 2


@dataclass(frozen=True)
class Angles:
    """gammas, betas: radians, one a layer. family: the instances they were trained on."""

    family: str
    gammas: Array
    betas: Array


@cache
def load(layers: int, family: str = "mixture") -> Angles:
    """Raises MeshError when no angles were trained for this depth or family."""
    table = json.loads(files("eigenmesh.optimize").joinpath("data/angles.json").read_text())
    if table["version"] != VERSION:
        raise MeshError("angles.json version", table["version"], f"retrain: this is {VERSION}")
    depths = table["families"].get(family)
    if depths is None:
        raise MeshError("angles family", family, f"use one of: {', '.join(table['families'])}")
    if str(layers) not in depths:
        raise MeshError("circuits.layers", layers, f"use one of: {', '.join(depths)}")
    entry = depths[str(layers)]
    return Angles(family, np.array(entry["gammas"]), np.array(entry["betas"]))
