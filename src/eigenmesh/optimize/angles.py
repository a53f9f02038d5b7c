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
from pathlib import Path

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
def load(layers: int, family: str = "mixture", file: Path | None = None) -> Angles:
    """Angles of the table that is shipped, or of another. Raises MeshError when none were trained
    for this depth or family, or the file is no such table."""
    source = file or files("eigenmesh.optimize").joinpath("data/angles.json")
    try:
        table = json.loads(source.read_text())
        version, families = table["version"], table["families"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MeshError("circuits.angles", str(source), f"no table of angles: {error}") from error
    if version != VERSION:
        raise MeshError("circuits.angles", f"version {version}", f"retrain: this is {VERSION}")
    depths = families.get(family)
    if depths is None:
        raise MeshError("circuits.family", family, f"use one of: {', '.join(families)}")
    if str(layers) not in depths:
        raise MeshError("circuits.layers", layers, f"use one of: {', '.join(depths)}")
    entry = depths[str(layers)]
    return Angles(family, np.array(entry["gammas"]), np.array(entry["betas"]))
