"""Weights for fixed limits, classically: Newton steps by water-filling (`newton`), and SLSQP.

SLSQP (D. Kraft, DFVLR-FB 88-28, 1988; scipy's) is cubic in the number of weights, and several times
slower than Newton's steps on any mesh; where a scenario overloads the mesh and J has many valleys,
it finds the lower ones.
"""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.answers import Weights
from eigenmesh.optimize.newton import descend
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


def newton(
    objective: Objective, limits: Array, start: Array, *, within: float = 1e-6, most: int = 300
) -> Weights:
    """Local optimum near `start`, an allowed w; any size."""
    found = descend(
        objective,
        start,
        lambda w: objective.expand(w, limits),
        lambda here: here.gradient,
        within=within,
        most=most,
    )
    return Weights(found.w, {"evaluations": found.evaluations})
