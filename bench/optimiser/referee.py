"""Optima to compare with, by means that the optimiser does not use."""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Weights
from eigenmesh.optimize.objective import Objective


def projected_gradient(
    objective: Objective, limits: Array, start: Array, *, steps: int = 200, memory: int = 5
) -> Weights:
    """Local optimum near `start`, an allowed w; any size."""
    w = objective.project(start)
    value, gradient = objective.value_and_gradient(w, limits)
    best_value, best = value, w
    recent = [value]
    step = 0.1 / max(float(np.abs(gradient).max()), 1e-12)
    evaluations = 1
    for _ in range(steps):
        way = objective.project(w - step * gradient) - w
        slope = float(gradient @ way)
        if slope > -1e-10 * abs(value):
            break
        reach, bar = 1.0, max(recent)
        while True:
            tried = w + reach * way
            new_value, new_gradient = objective.value_and_gradient(tried, limits)
            evaluations += 1
            if new_value <= bar + 1e-4 * reach * slope or reach < 1e-6:
                break
            reach *= 0.5
        moved, bent = tried - w, new_gradient - gradient
        curvature = float(moved @ bent)
        length = float(moved @ moved)
        step = float(np.clip(length / curvature, 1e-8, 1e8)) if curvature > 0 else 10.0 * step
        w, value, gradient = tried, new_value, new_gradient
        recent = [*recent, value][-memory:]
        if value < best_value:
            best_value, best = value, w
    return Weights(best, {"evaluations": evaluations})


def doubt(objective: Objective, limits: Array, w: Array) -> float:
    """How far J of w is from the optimum at most, relative, where J is convex.

    J lies above its tangent at w plus the price of the move, both of which are piecewise linear:
    their least value is a knapsack, filled in order of marginal cost (the duality gap of M. Jaggi,
    ICML 2013).
    """
    here = objective.expand(w, limits)
    corner = np.clip(objective.initial, objective.low, objective.high)
    least = here.value - float(here.gradient @ w) - float(objective.weight_churn(w))
    for r in range(len(objective.routes)):
        edges = objective.edges_of(r)
        low, middle, high = objective.low[edges], corner[edges], objective.high[edges]
        price, slope = objective.churn_prices[edges], here.gradient[edges]
        costs = np.concatenate((slope - price, slope + price))
        sizes = np.concatenate((middle - low, high - middle))
        order = np.argsort(costs)
        taken = np.diff(np.minimum(np.cumsum(sizes[order]), 1.0 - low.sum()), prepend=0.0)
        least += float(slope @ low + price @ np.abs(low - objective.initial[edges]))
        least += float(taken @ costs[order])
    return max(0.0, here.value - least) / here.value
