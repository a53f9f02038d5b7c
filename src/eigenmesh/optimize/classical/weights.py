"""Weights for fixed limits, classically: SLSQP, and a spectral projected gradient.

SLSQP (D. Kraft, DFVLR-FB 88-28, 1988; scipy's) is exact on meshes of up to a few hundred weights
and cubic in their number. The projected gradient (E. Birgin, J. Martinez, M. Raydan, SIAM J.
Optim. 10, 2000) takes over above, needs numpy only, and polishes what SLSQP leaves.
"""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Weights
from eigenmesh.optimize.objective import Objective

SLSQP_LIMIT = 200
"""Weights above which SLSQP's dense factorisations take longer than the tick allows."""


def slsqp(objective: Objective, limits: Array, start: Array) -> Weights:
    """Local optimum near `start`, an allowed w."""
    from scipy.optimize import minimize

    evaluations = 0
    scale = max(objective.value_and_gradient(start, limits)[0], 1e-12)
    # A gradient flat against J would stop SLSQP at once: unit-sized J.
    routes = np.arange(len(objective.routes))
    jacobian = (objective.by_route.index == routes[:, None]).astype(np.float64)

    def value(x: Array) -> tuple[float, Array]:
        nonlocal evaluations
        evaluations += 1
        j, gradient = objective.value_and_gradient(x, limits)
        return j / scale, gradient / scale

    result = minimize(
        value,
        start,
        jac=True,
        method="SLSQP",
        bounds=np.stack((objective.low, objective.high), axis=1),
        constraints={
            "type": "eq",
            "fun": lambda x: jacobian @ x - 1.0,
            "jac": lambda _: jacobian,
        },
        options={"ftol": 1e-9, "maxiter": 100},
    )
    found = objective.project(np.nan_to_num(result.x, nan=0.0))
    return Weights(found, {"evaluations": evaluations, "message": str(result.message)})


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
