"""Training of QAOA angles on diagonal costs, in numpy: no device, exact gradients.

What is maximised is the mean log-probability, over training instances, of sampling a state whose
cost is within 1% of the optimum, measured on the way from the mean cost to it. Success counts, not
the mean energy: a rung plan is the best of a few hundred samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.statevector import State, phase, rotate_x, sum_x, uniform

WITHIN = 0.01


def standardised(costs: Array) -> Array:
    """Zero mean, unit standard deviation, over the last axis."""
    centred = costs - costs.mean(axis=-1, keepdims=True)
    out: Array = centred / centred.std(axis=-1, keepdims=True)
    return out


def near_optimal(costs: Array, within: float = WITHIN) -> NDArray[np.bool_]:
    """States whose cost lies at most `within` of (mean - minimum) above the minimum."""
    low, mean = costs.min(axis=-1, keepdims=True), costs.mean(axis=-1, keepdims=True)
    out: NDArray[np.bool_] = costs <= low + within * (mean - low)
    return out


def evolve(costs: Array, gammas: Array, betas: Array) -> State:
    """QAOA states (instances, 2^n) of standardised costs (instances, 2^n)."""
    psi = uniform(costs.shape)
    for gamma, beta in zip(gammas.tolist(), betas.tolist(), strict=True):
        psi = rotate_x(phase(psi, gamma, costs), beta)
    return psi


def score_and_gradient(costs: Array, good: NDArray[np.bool_], x: Array) -> tuple[float, Array]:
    """Mean log P(good) over instances, and its gradient by x = gammas, then betas.

    Backwards through the layers: with the adjoint state a, dP/dgamma = 2 Im<a|C psi> and
    dP/dbeta = 2 Im<a|sum X psi>, each at its own layer.
    """
    layers = len(x) // 2
    gammas, betas = x[:layers], x[layers:]
    psi = evolve(costs, gammas, betas)
    success = (np.abs(psi) ** 2 * good).sum(axis=-1)
    adjoint = psi * good / success[:, None]
    gradient = np.empty(2 * layers)
    for layer in range(layers - 1, -1, -1):
        gradient[layers + layer] = 2.0 * np.mean(_overlap(adjoint, sum_x(psi)))
        beta, gamma = float(betas[layer]), float(gammas[layer])
        psi, adjoint = rotate_x(psi, -beta), rotate_x(adjoint, -beta)
        gradient[layer] = 2.0 * np.mean(_overlap(adjoint, costs * psi))
        psi, adjoint = phase(psi, -gamma, costs), phase(adjoint, -gamma, costs)
    return float(np.log(success).mean()), gradient


@dataclass(frozen=True)
class Trained:
    """score: mean log P(good) reached, per batch of equal size."""

    gammas: Array
    betas: Array
    score: float
    evaluations: int


def train(
    batches: Sequence[Array],
    layers: int,
    *,
    steps: int = 150,
    start: tuple[Array, Array] | None = None,
) -> Trained:
    """Angles for all instances in `batches` (each (instances, 2^n) raw costs) together.

    Follows L-BFGS from the better of a linear annealing schedule and `start` (gammas, betas).
    """
    from scipy.optimize import minimize

    costs = [standardised(batch) for batch in batches]
    good = [near_optimal(batch) for batch in costs]
    weights = np.array([len(batch) for batch in costs], dtype=np.float64)
    weights /= weights.sum()
    evaluations = 0

    def loss(x: Array) -> tuple[float, Array]:
        nonlocal evaluations
        evaluations += 1
        parts = [score_and_gradient(c, g, x) for c, g in zip(costs, good, strict=True)]
        total = sum(w * part[0] for w, part in zip(weights, parts, strict=True))
        gradient = np.einsum("b,bx->x", weights, np.stack([part[1] for part in parts]))
        return -float(total), -gradient

    schedule = (np.arange(layers) + 0.5) / layers
    # The X mixer starts in the state that annealing leaves for negative beta and positive gamma.
    starts = [np.concatenate((0.6 * schedule, -0.6 * (1.0 - schedule)))]
    if start is not None:
        starts.append(np.concatenate(start))
    first = min(starts, key=lambda x: loss(x)[0])
    result = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return Trained(result.x[:layers], result.x[layers:], -float(result.fun), evaluations)


def _overlap(left: State, right: State) -> Array:
    out: Array = (left.conj() * right).sum(axis=-1).imag
    return out
