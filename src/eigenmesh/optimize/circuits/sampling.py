"""Good states of one block's cost table, from the samples of a circuit.

A circuit proposes, the table decides: the best of the samples by their cost is the answer. Three
circuits: QAOA with the X mixer, QAOA with an XY mixer, and VQE, which trains a hardware-efficient
ansatz on the conditional value at risk, the mean of the best share of the samples (P. Barkoutsos et
al., "Improving variational quantum optimization using CVaR", Quantum 4, 2020).

The angles of QAOA are shipped (`angles`). `refine` steps of L-BFGS from them, on the same measure,
are for costs that resemble none that the angles were trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from eigenmesh.mesh import MeshError
from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.angles import Angles, load
from eigenmesh.optimize.circuits.ansatz import hardware_efficient, one_hot, x_layers, xy_layers
from eigenmesh.optimize.circuits.device import Device, Gates
from eigenmesh.optimize.circuits.noise import Noise, draw, noisy_probabilities
from eigenmesh.optimize.circuits.operations import DiagonalCost, tilted
from eigenmesh.optimize.encoding import Ints, bits, rungs_of, state_of
from eigenmesh.optimize.problem import CircuitSettings
from eigenmesh.optimize.training import standardised

KEPT_VARIANCE = 0.9999
MOST_TERMS = 512
"""Share of the cost's variance, and number of terms, that a device gets which pays gate by gate."""

RISK = 0.1
"""Share of the samples whose mean is trained."""
VQE_LAYERS = 2
VQE_STEPS = 60
_SPREAD = 0.3
"""Radians around the incumbent's own angles from which VQE starts."""


@dataclass(frozen=True)
class Samples:
    """states: basis states of the Gray-coded block (N,). qubits: of the circuit. terms: of its
    cost, in gates; 0 where none were made. evaluations: of the circuit's gradient."""

    states: Ints
    qubits: int
    terms: int
    evaluations: int
    angles: str


def sample(
    table: Array, levels: int, start: int, settings: CircuitSettings, seed: int, device: Device
) -> Samples:
    """Samples for a block whose costs are `table` (levels^clusters,), in the Gray code's order.

    start: the incumbent's basis state. VQE begins there; QAOA with the X mixer leans toward it.
    """
    costs = standardised(table)
    if settings.algorithm == "qaoa-xy":
        return _one_hot_samples(costs, levels, settings, device)
    cost, terms = _affordable(costs, device)
    if settings.algorithm == "vqe":
        gates, spent = _vqe(cost, start, settings, seed, device)
        family = ""
    else:
        angles = load(settings.layers, settings.family, settings.angles)
        family = angles.family
        turns = None
        if settings.warm_start:
            turns = tilted(start, cost.qubits, settings.warm_start)
        angles, spent = _refined(cost, angles, settings.refine, device, turns)
        if settings.depolarising or settings.readout:
            noise, rng = Noise(settings.depolarising, settings.readout), np.random.default_rng(seed)
            cost = cost.truncated(KEPT_VARIANCE, MOST_TERMS)
            p = noisy_probabilities(cost, angles, noise, rng)
            states = draw(p, settings.shots, noise, rng)
            return Samples(states, cost.qubits, len(cost.terms), spent, f"{family}, with noise")
        gates = x_layers(cost, angles, turns)
    states = device.samples(gates, cost.qubits, settings.shots)
    return Samples(states, cost.qubits, terms, spent, family)


def circuit_qubits(clusters: int, levels: int, settings: CircuitSettings) -> int:
    """Qubits that a block of so many clusters takes."""
    return clusters * (levels if settings.algorithm == "qaoa-xy" else bits(levels))


def _affordable(costs: Array, device: Device) -> tuple[DiagonalCost, int]:
    cost = DiagonalCost(costs)
    if not device.pays_by_gate:
        return cost, 0
    cost = cost.truncated(KEPT_VARIANCE, MOST_TERMS)
    return cost, len(cost.terms)


def _one_hot_samples(
    costs: Array, levels: int, settings: CircuitSettings, device: Device
) -> Samples:
    clusters = (costs.size.bit_length() - 1) // bits(levels)
    rungs = rungs_of(np.arange(costs.size), clusters, levels)
    words = np.left_shift(1, levels - 1 - rungs)
    shifts = levels * np.arange(clusters - 1, -1, -1, dtype=np.int64)
    # No state outside the registers' one-hot words is ever reached: their cost is of no account.
    wide = np.zeros(2 ** (levels * clusters))
    wide[(words << shifts).sum(axis=-1)] = costs
    cost, terms = _affordable(wide, device)
    angles = load(settings.layers, settings.family, settings.angles)
    states = device.samples(xy_layers(cost, angles, levels), cost.qubits, settings.shots)
    found = state_of(one_hot(states, clusters, levels), levels)
    return Samples(found, cost.qubits, terms, 0, angles.family)


def _refined(
    cost: DiagonalCost, angles: Angles, steps: int, device: Device, turns: Array | None
) -> tuple[Angles, int]:
    if not steps:
        return angles, 0
    layers = angles.gammas.size

    def gates(x: Array) -> Gates:
        return x_layers(cost, Angles(angles.family, x[:layers], x[layers:]), turns)

    # Parameters come in the order of the gates: a gamma and a beta, layer by layer.
    first = 0 if turns is None else cost.qubits
    order = first + np.concatenate((np.arange(0, 2 * layers, 2), np.arange(1, 2 * layers, 2)))
    start = np.concatenate((angles.gammas, angles.betas))
    found, spent = _least_risk(cost, gates, lambda s: s[order], start, steps, device)
    return Angles(f"{angles.family}, refined", found[:layers], found[layers:]), spent


def _vqe(
    cost: DiagonalCost, start: int, settings: CircuitSettings, seed: int, device: Device
) -> tuple[Gates, int]:
    qubits = cost.qubits
    shape = (VQE_LAYERS + 1, qubits)
    own = np.random.default_rng(seed).normal(scale=_SPREAD, size=shape)
    # The incumbent's basis state, turned back by the spread; the CZ between do not move it.
    own[0] += np.pi * ((start >> np.arange(qubits - 1, -1, -1)) & 1)

    def gates(x: Array) -> Gates:
        return hardware_efficient(x.reshape(shape))

    found, spent = _least_risk(cost, gates, lambda s: s, own.ravel(), VQE_STEPS, device)
    return gates(found), spent


def _least_risk(
    cost: DiagonalCost,
    gates: Callable[[Array], Gates],
    ordered: Callable[[Array], Array],
    start: Array,
    steps: int,
    device: Device,
) -> tuple[Array, int]:
    """L-BFGS on the CVaR. With q the quantile at RISK, it is q + E[min(C - q, 0)] / RISK, and q
    has no slope: the gradient is that of the diagonal min(C - q, 0)."""
    values = cost.values
    order = np.argsort(values)
    evaluations = 0

    def value(x: Array) -> tuple[float, Array]:
        nonlocal evaluations
        evaluations += 1
        circuit = gates(x)
        p = device.probabilities(circuit, cost.qubits)
        at = int(np.searchsorted(np.cumsum(p[order]), RISK))
        q = values[order[min(at, order.size - 1)]]
        below = np.minimum(values - q, 0.0) / RISK
        return float(q + p @ below), ordered(device.slopes(circuit, below))

    result = minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return np.asarray(result.x), evaluations


def check_fits(levels: int, settings: CircuitSettings) -> None:
    """Raises MeshError if one cluster's ladder does not fit the circuit."""
    width = circuit_qubits(1, levels, settings)
    if width > settings.max_qubits:
        raise MeshError(
            "circuits.max_qubits",
            settings.max_qubits,
            f"use {width} or more: a ladder of {levels} rungs needs as many",
        )
