"""Where the search for weights begins.

While no scenario overloads the mesh, J is as good as convex and any start leads to the same
optimum. Where one does, J has many: it pays to give the overload to one cluster, whose breaker
sheds it, and to keep the others fast, and each choice of that cluster is a valley of its own
(measured: from one start 1 to 12% above the best of thirty, at 78 to 85% load with bursts of 1.3).
So is, on a shared host, each choice of the route that gets it (16 meshes of 8 clusters on two
hosts: from one start up to 64% above the best of nineteen, from three up to 7%).
"""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.objective import Objective

CROWDED = 0.95
"""Share of the mesh's capacity above which a scenario makes more than one valley."""
SEVERAL = 3
_OVERLOADS = (1.15, 1.3, 1.6)
_CLUSTERS = 16


def is_crowded(objective: Objective) -> bool:
    """Whether hosts are shared, or a scenario comes near or above the capacity of all clusters
    together."""
    if not objective.separable:
        return True
    peak = float(objective.demands.sum()) * float(objective.factors.max())
    return peak > CROWDED * float(objective.capacity.sum())


def starts(objective: Objective, current: Array, limits: Array, count: int) -> list[Array]:
    """The `count` best of: `current`, weights in proportion to capacity, and those with more than
    its share for one of the largest clusters; allowed weights, best first."""
    found = [current, objective.capacity_weights()]
    if count > 1:
        for k in np.argsort(-objective.capacity)[:_CLUSTERS]:
            for overload in _OVERLOADS:
                capacity = objective.capacity.copy()
                capacity[k] *= overload
                found.append(objective.shares(objective.by_cluster.spread(capacity)))
    values = objective.evaluate(np.stack(found), limits)
    return [found[i] for i in np.argsort(values, kind="stable")[:count]]
