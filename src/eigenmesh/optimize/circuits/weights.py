"""Weights for fixed limits by Born machines: one circuit per route, trained on the shared J.

A route's weights over K clusters are w = low + (1 - sum low) p with p the probabilities of the
first K basis states of ceil(log2 K) qubits, prepared by a tree of multiplexed RY rotations
(`encoding`). Every weight vector has angles in closed form, so training starts from the incumbent.
Routes are separate circuits, since J depends on each route's own probabilities only; they are
trained together, since it couples them.

Gradient: with g = dJ/dw at the current weights, dJ/dtheta is the derivative of the expectation
value of diag(g), g held fixed, which the device gives by adjoint differentiation. L-BFGS follows
it in the circuits' natural coordinates (J. Stokes et al., "Quantum natural gradient", Quantum 4,
2020): the tree's Fisher metric is diagonal, the probability of reaching each node, here times the
route's share of the demand. That alone saves half of the evaluations. A weight that ends above
its largest is pinned there, its leaf leaves the tree, and the rest is trained again.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

import numpy as np
import pennylane as qml
from numpy.typing import NDArray
from scipy.optimize import minimize

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Weights
from eigenmesh.optimize.circuits.device import Device, Gates
from eigenmesh.optimize.encoding import (
    Ints,
    bits,
    multiplexer,
    node_probabilities,
    trainable_nodes,
    tree_angles,
)
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import CircuitSettings

MIX = 0.01
"""Share of uniform probability in the start: at p = 0 a rotation has no slope and would stay."""
_METRIC_FLOOR = 1e-4
_OPTIONS = {"maxiter": 80, "maxcor": 20, "ftol": 2e-7, "gtol": 1e-7}


def tree_gates(angles: Array) -> Gates:
    """The tree of 2^q - 1 angles as RY and CNOT gates on q wires.

    Level l is a rotation of wire l multiplexed by the wires above it: 2^l rotations by a linear
    map of its angles, with CNOTs between them (Moettoenen et al., fig. 2), which is how
    `qml.SelectPauliRot` decomposes too, here without its basis changes.
    """
    gates: list[qml.operation.Operation] = []
    for level in range((angles.size + 1).bit_length() - 1):
        turns = multiplexer(level) @ angles[2**level - 1 : 2 ** (level + 1) - 1]
        for i, turn in enumerate(turns.tolist()):
            gates.append(qml.RY(turn, wires=level))
            if level:
                flipped = (i + 1) & -(i + 1)
                control = level - min(flipped.bit_length(), level)
                gates.append(qml.CNOT(wires=(control, level)))
    return gates


def angle_slopes(gate_slopes: Array) -> Array:
    """Derivatives by the gates' rotations to derivatives by the tree's angles."""
    out = np.empty_like(gate_slopes)
    for level in range((out.size + 1).bit_length() - 1):
        part = slice(2**level - 1, 2 ** (level + 1) - 1)
        out[part] = multiplexer(level).T @ gate_slopes[part]
    return out


class _OutOfTimeError(Exception):
    """Leaves scipy's loop; the best weights so far are kept."""


@dataclass(frozen=True)
class _Tree:
    """One route's circuit: its leaves (edges), the mass they share, its share of the demand."""

    leaves: Ints
    floor: Array
    mass: float
    demand: float

    @property
    def qubits(self) -> int:
        return bits(self.leaves.size)

    @property
    def nodes(self) -> Ints:
        return trainable_nodes(self.leaves.size)

    def angles(self, trained: Array) -> Array:
        angles = np.zeros(2**self.qubits - 1)
        angles[self.nodes] = trained
        return angles

    def start(self, weights: Array) -> Array:
        p = np.maximum(weights - self.floor, 0.0)
        p = p / max(float(p.sum()), 1e-300)
        return tree_angles((1.0 - MIX) * p + MIX / p.size)[self.nodes]

    def metric(self, trained: Array) -> Array:
        found = node_probabilities(self.angles(trained))[self.nodes]
        return np.maximum(found, _METRIC_FLOOR)


def born_machine(
    objective: Objective, limits: Array, start: Array, settings: CircuitSettings, seed: int = 0
) -> Weights:
    """Local optimum near `start`, an allowed w, or what the time limit left of the way to it."""
    deadline = time.perf_counter() + settings.seconds
    pinned = np.zeros(start.shape, dtype=bool)
    w, evaluations = start, 0
    devices: dict[int, Device] = {}
    while True:
        fixed, trees = _trees(objective, pinned, start)
        if not trees:
            w = fixed
            break
        # One device a size: an adjoint observable must cover all of its device's wires.
        for qubits in {tree.qubits for tree in trees} - devices.keys():
            devices[qubits] = Device(settings.device, qubits, seed)
        w, spent = _train(objective, limits, w, fixed, trees, devices, deadline)
        evaluations += spent
        over = ~pinned & (objective.high + 1e-9 < w)
        if not over.any():
            break
        pinned |= over
        w = objective.project(w)
    detail: dict[str, float | str] = {"circuits": len(trees), "evaluations": evaluations}
    if devices:
        detail |= devices[max(devices)].detail
        detail["gates"] = sum(2 ** (tree.qubits + 1) - 3 for tree in trees)
    return Weights(objective.project(w), detail)


def _trees(
    objective: Objective, pinned: NDArray[np.bool_], start: Array
) -> tuple[Array, list[_Tree]]:
    """The part of w that no circuit decides, and the circuits that share out the rest."""
    fixed = np.where(pinned, objective.high, objective.low)
    trees = []
    for r, demand in enumerate(objective.demands / objective.demands.sum()):
        edges = objective.edges_of(r)
        leaves = edges.start + np.flatnonzero(~pinned[edges])
        mass = 1.0 - float(fixed[edges].sum())
        if demand <= 0:
            fixed[edges] = start[edges]  # without traffic there is nothing to learn
        elif leaves.size == 1:
            fixed[leaves] += mass
        elif leaves.size > 1 and mass > 0:
            trees.append(_Tree(leaves, objective.low[leaves], mass, float(demand)))
    return fixed, trees


def _train(
    objective: Objective,
    limits: Array,
    start: Array,
    fixed: Array,
    trees: list[_Tree],
    devices: dict[int, Device],
    deadline: float,
) -> tuple[Array, int]:
    """The weights found and the evaluations spent."""
    ends = np.cumsum([tree.nodes.size for tree in trees])[:-1]
    scale = max(objective.value_and_gradient(start, limits)[0], 1e-12)
    evaluations = 0
    best: tuple[float, Array] = (np.inf, start)

    def value(theta: Array) -> tuple[float, Array]:
        nonlocal evaluations, best
        evaluations += 1
        w = fixed.copy()
        circuits = []
        for tree, part in zip(trees, np.split(theta, ends), strict=True):
            gates = tree_gates(tree.angles(part))
            p = devices[tree.qubits].probabilities(gates, tree.qubits)[: tree.leaves.size]
            w[tree.leaves] += tree.mass * p / p.sum()
            circuits.append(gates)
        j, gradient = objective.value_and_gradient(w, limits)
        if j < best[0]:
            best = (j, w)
        if time.perf_counter() > deadline:
            raise _OutOfTimeError
        slopes = []
        for tree, gates in zip(trees, circuits, strict=True):
            diagonal = np.zeros(2**tree.qubits)
            diagonal[: tree.leaves.size] = tree.mass * gradient[tree.leaves] / scale
            found = devices[tree.qubits].slopes(gates, diagonal)
            slopes.append(angle_slopes(found)[tree.nodes])
        return j / scale, np.concatenate(slopes)

    first = [tree.start(start[tree.leaves]) for tree in trees]
    unit = np.sqrt(
        np.concatenate([t.demand * t.metric(x) for t, x in zip(trees, first, strict=True)])
    )

    def natural(phi: Array) -> tuple[float, Array]:
        j, slopes = value(phi / unit)
        return j, slopes / unit

    with contextlib.suppress(_OutOfTimeError):
        minimize(
            natural, np.concatenate(first) * unit, jac=True, method="L-BFGS-B", options=_OPTIONS
        )
    return best[1], evaluations
