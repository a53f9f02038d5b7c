"""Weights for fixed limits by Born machines: one circuit per route, trained on the shared J.

A route's weights over K clusters are w = low + (1 - sum low) p with p the probabilities of the
first K basis states of ceil(log2 K) qubits, prepared by a tree of multiplexed RY rotations
(`encoding`). Every weight vector has angles in closed form, so training starts from the incumbent.
Routes are separate circuits, since J depends on each route's own probabilities only; they are
trained together, since it couples them.

Gradient: with g = dJ/dw at the measured weights, dJ/dtheta is the derivative of the expectation
value of diag(g), g held fixed, which the device gives by adjoint differentiation. A slope by the
angle of a node says how the two sides of the node differ in their mean of g, so that the slopes of
all nodes say what each leaf costs. The step is the second-order one of `newton`, taken in
probabilities, where J's curvature is simple, and turned into angles: 3 to 10 circuit runs where
L-BFGS in the circuits' natural coordinates needed 20 to 100.
"""

from __future__ import annotations

import time
from functools import cache, cached_property

import numpy as np
import pennylane as qml

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Weights
from eigenmesh.optimize.circuits.device import Device, Gates
from eigenmesh.optimize.encoding import (
    bits,
    multiplexer,
    node_probabilities,
    tree_angles,
)
from eigenmesh.optimize.newton import descend
from eigenmesh.optimize.objective import Expansion, Objective
from eigenmesh.optimize.problem import CircuitSettings

FAINT = 1e-9
"""Least probability of a leaf, times K: where a leaf has none, no angle's slope tells its cost."""
LAST = 5e-4
"""A step that promises less than this part of J is the last one."""
MOST = 60
"""Evaluations after which it stays as it is."""


class _CNOT(qml.CNOT):  # type: ignore[misc]
    """PennyLane's, which remembers its wires: simulators ask for them again and again, and to
    compute them takes a third of a circuit's time."""

    @cached_property
    def wires(self) -> qml.wires.Wires:
        return super().wires


@cache
def _cnot(control: int, target: int) -> _CNOT:
    return _CNOT(wires=(control, target))


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
                gates.append(_cnot(control, level))
    return gates


def turn(gates: Gates, angles: Array) -> None:
    """Gives gates of `tree_gates` other angles. To make them anew takes longer than to run them."""
    rotations = iter([gate for gate in gates if gate.num_params])
    for level in range((angles.size + 1).bit_length() - 1):
        turns = multiplexer(level) @ angles[2**level - 1 : 2 ** (level + 1) - 1]
        for angle in turns.tolist():
            next(rotations).data = (angle,)


def angle_slopes(gate_slopes: Array) -> Array:
    """Derivatives by the gates' rotations to derivatives by the tree's angles."""
    out = np.empty_like(gate_slopes)
    for level in range((out.size + 1).bit_length() - 1):
        part = slice(2**level - 1, 2 ** (level + 1) - 1)
        out[part] = multiplexer(level).T @ gate_slopes[part]
    return out


def leaf_slopes(slopes: Array, angles: Array) -> Array:
    """Derivatives by the tree's angles to those by its probabilities, but for a constant.

    An angle t of a node reached with probability P moves P sin(t) / 2 from the node's left to its
    right side for each radian: its slope is that times the difference of their mean costs.
    """
    moved = 0.5 * node_probabilities(angles) * np.sin(angles)
    apart = np.divide(slopes, moved, out=np.zeros_like(slopes), where=np.abs(moved) > 1e-300)
    share = np.sin(angles / 2.0) ** 2
    mean = np.zeros(1)
    for level in range((angles.size + 1).bit_length() - 1):
        nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
        left = mean - share[nodes] * apart[nodes]
        mean = np.stack((left, left + apart[nodes]), axis=1).ravel()
    return mean


class _Tree:
    """One route's circuit: its weights are floor + mass * its probabilities."""

    def __init__(self, edges: slice, floor: Array, device: Device) -> None:
        self.edges = edges
        self.floor = floor
        self.mass = 1.0 - float(floor.sum())
        self.device = device
        self.gates = tree_gates(tree_angles(np.ones(floor.size)))

    def measure(self, w: Array) -> Array:
        """The route's weights, measured on a circuit that was turned to w."""
        self._turn(w)
        found = self.device.probabilities(self.gates, self.device.wires)[: w.size]
        weights: Array = self.floor + self.mass * found / found.sum()
        return weights

    def slopes(self, w: Array, gradient: Array) -> Array:
        """dJ/dw of the route at w as the circuit's slopes tell it: but for a constant."""
        angles = self._turn(w)
        diagonal = np.zeros(2**self.device.wires)
        diagonal[: gradient.size] = gradient
        slopes = angle_slopes(self.device.slopes(self.gates, diagonal))
        return leaf_slopes(slopes, angles)[: gradient.size]

    def _turn(self, w: Array) -> Array:
        angles = tree_angles(np.maximum((w - self.floor) / self.mass, FAINT / w.size))
        turn(self.gates, angles)
        return angles


def born_machine(
    objective: Objective, limits: Array, start: Array, settings: CircuitSettings, seed: int = 0
) -> Weights:
    """Local optimum near `start`, an allowed w, or what the time limit left of the way to it."""
    deadline = time.perf_counter() + settings.seconds
    trees = _trees(objective, settings, seed)

    def expand(w: Array) -> Expansion:
        w = w.copy()
        for tree in trees:
            w[tree.edges] = tree.measure(w[tree.edges])
        return objective.expand(w, limits)

    def slopes(here: Expansion) -> Array:
        gradient = np.zeros_like(here.w)
        for tree in trees:
            gradient[tree.edges] = tree.slopes(here.w[tree.edges], here.gradient[tree.edges])
        return gradient

    found = descend(
        objective,
        start,
        expand,
        slopes,
        within=LAST,
        most=MOST if trees else 1,
        in_time=lambda: time.perf_counter() < deadline,
    )
    detail: dict[str, float | str] = {
        "circuits": len(trees),
        "evaluations": found.evaluations,
        "gradients": found.gradients,
    }
    if trees:
        largest = max((tree.device for tree in trees), key=lambda device: device.wires)
        detail |= largest.detail
        detail["gates"] = sum(len(tree.gates) for tree in trees)
    return Weights(objective.project(found.w), detail)


def _trees(objective: Objective, settings: CircuitSettings, seed: int) -> list[_Tree]:
    """A circuit for every route that has a choice, and traffic to learn from."""
    devices: dict[int, Device] = {}
    trees = []
    for r, demand in enumerate(objective.demands):
        edges = objective.edges_of(r)
        floor = objective.low[edges]
        if demand <= 0 or floor.size == 1 or floor.sum() >= 1.0 - 1e-12:
            continue
        # One device a size: an adjoint observable must cover all of its device's wires.
        qubits = bits(floor.size)
        if qubits not in devices:
            devices[qubits] = Device(settings.device, qubits, seed)
        trees.append(_Tree(edges, floor, devices[qubits]))
    return trees
