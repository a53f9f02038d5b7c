"""Loads near the ones at hand, and the derivatives of what depends on them, by differences."""

from __future__ import annotations

import numpy as np

from eigenmesh.mesh import Pools
from eigenmesh.mesh.curve import Array

_STEP = 1e-5
"""Step of the differences, as a fraction of the capacity."""


class Near:
    """Points around the loads of clusters (..., clusters).

    load, felt: (3 or 5, ...) own and equivalent loads: here; with an own load above and below; and
    where hosts are shared, with a neighbour's. Below a load of 0, should a step lead there, costs
    go on in a straight line. Values are taken at these points; derivatives are of the sum of
    weights * values.
    """

    def __init__(self, pools: Pools, capacity: Array, load: Array, felt: Array) -> None:
        self._pools, self._capacity = pools, capacity
        self._step = step = _STEP * capacity
        above, below = felt + step, felt - step
        self.load = self.felt = np.stack((felt, above, below))
        if not pools.none:
            self.load = np.stack((load, load + step, load - step, load, load))
            self.felt = np.stack((felt, above, below, above, below))

    def slope(self, values: Array, weights: Array) -> Array:
        """By the cluster's own load."""
        out: Array = weights * (values[1] - values[2]) / (2.0 * self._step)
        return out

    def pressure(self, values: Array, weights: Array) -> Array:
        """By what its neighbours feel of each cluster; 0 where no host is shared."""
        if self._pools.none:
            return np.zeros(1)
        through = weights * (values[3] - values[4]) / (2.0 * self._step)
        return self._neighbours(through, self._capacity)

    def bend(self, values: Array, weights: Array) -> Array:
        """Second derivatives by load, or more: neighbours count as if they felt all that comes,
        and kappa times, not its square."""
        out: Array = weights * (values[1] - 2.0 * values[0] + values[2]) / self._step**2
        if not self._pools.none:
            through = weights * (values[3] - 2.0 * values[0] + values[4]) / self._step**2
            out = out + self._neighbours(through, self._capacity**2)
        return out

    def _neighbours(self, through: Array, unit: Array) -> Array:
        shares = through * unit
        return (self._pools.felt(shares) - shares) / unit
