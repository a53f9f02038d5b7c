"""Second-order descent for weights: what the classical solver and the circuits share.

Near w, J is taken for its gradient g, the curvature h_k of each cluster's cost in the cluster's
load, and the exact price of moving away from the incumbent:

    J(z) = g (z - w) + sum_k h_k (sum_r d_r (z_rk - w_rk))^2 / 2 + churn(z)

Where no routes share a cluster, water-filling (`simplex.fill`) gives the least of it at once; where
they do, (sum_r d_r x_r)^2 <= (sum_r d_r) sum_r d_r x_r^2 puts a sum over routes above it, so that
water-filling against the right-hand side descends; steps are accelerated (A. Beck, M.
Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sci. 2, 2009) and
start afresh when they overshoot (B. O'Donoghue, E. Candes, Found. Comput. Math. 15, 2015).

A step that does not lower J tells how each cluster's marginal cost changed on the way. The model
takes that for its curvature where it is more, and is solved again: so it learns of the wall where
a queue fills and of the kink at the SLO, which no derivative here shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from eigenmesh.mesh.curve import Array
from eigenmesh.optimize.objective import Expansion, Objective

_INNER = 25
_FLAT = 0.05
"""Least curvature of a cluster, relative to marginal cost over capacity: a queue that is all but
empty is all but linear."""

_REACH, _CREEP = 0.6, 0.02
"""A cluster's load grows by this part of what is free at most, and of its capacity where nothing
is: the curvature here says little about the queue near its capacity."""
_TRIES, _STIFFER = 8, 3.0
"""Steps tried from one place; how much more curved J is taken to be after each that fails."""
_ENOUGH = 0.05
"""Part of the promise that a step must keep."""


@dataclass(frozen=True)
class Descent:
    """Where it ended, and what it cost: expansions of J, and gradients of them that were asked."""

    w: Array
    evaluations: int
    gradients: int


def descend(
    objective: Objective,
    start: Array,
    expand: Callable[[Array], Expansion],
    slopes: Callable[[Expansion], Array],
    *,
    within: float,
    most: int,
    in_time: Callable[[], bool] = lambda: True,
) -> Descent:
    """Local optimum near `start`, an allowed w.

    expand: J near given weights. slopes: its gradient (edges), which may lack a constant for each
    route. Ends with the step that promises less than `within` of J, after `most` expansions, or
    when it is no longer in time.
    """
    here = expand(start)
    evaluations, gradients, promise = 1, 0, -np.inf
    while promise < -within * here.value and evaluations < most and in_time():
        gradient = slopes(here)
        gradients += 1
        bend = here.bend
        for number in range(_TRIES):
            z = _step(objective, here.w, gradient, bend)
            churn = float(objective.weight_churn(z) - objective.weight_churn(here.w))
            hope = float(gradient @ (z - here.w)) + churn
            # What a shortened step promises says nothing of how near the optimum is.
            promise = promise if number else hope
            found = expand(z)
            evaluations += 1
            if found.value <= here.value + _ENOUGH * hope:
                break
            moved = objective.loads(z) - objective.loads(here.w)
            change = np.divide(
                found.marginal - here.marginal, moved, out=np.zeros_like(moved), where=moved != 0.0
            )
            bend = np.maximum(_STIFFER * bend, change)
        if found.value >= here.value:
            break
        here = found
    return Descent(here.w, evaluations, gradients)


def _step(objective: Objective, w: Array, gradient: Array, bend: Array) -> Array:
    """The allowed z (edges) of least modelled J, or near it."""
    demand, clusters = objective.edge_demands, objective.by_cluster
    steepness = np.maximum(clusters.sum(np.abs(gradient)), 1e-300)
    floor = _FLAT * steepness / (objective.capacity * np.maximum(clusters.sum(demand), 1e-300))
    bend = np.maximum(bend, floor)
    # Without traffic nothing is at stake, and the weights stay.
    curvature = demand * clusters.spread(bend * clusters.sum(demand))
    curvature = np.maximum(curvature, 1e-12 * curvature.max())
    free = objective.capacity / objective.factors.max() - objective.loads(w)
    room = np.maximum(_REACH * free, _CREEP * objective.capacity)
    most = w + clusters.spread(room / np.maximum(clusters.sum(demand), 1e-300))
    z = objective.fill(w - gradient / curvature, curvature, most)
    if len(objective.clusters) == len(w):
        return z
    ahead, before, speed = z, z, 1.0
    for _ in range(_INNER):
        pull = gradient + demand * clusters.spread(bend * clusters.sum(demand * (ahead - w)))
        z = objective.fill(ahead - pull / curvature, curvature, most)
        moved = z - before
        if np.abs(moved).max() <= 1e-3 * np.abs(z - w).max() + 1e-9:
            break
        if (curvature * (ahead - z)) @ moved > 0.0:
            speed, ahead = 1.0, z
        else:
            faster = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * speed**2))
            ahead, speed = z + (speed - 1.0) / faster * moved, faster
        before = z
    return z
