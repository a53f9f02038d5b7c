"""What a circuit breaker's request limit does to a cluster: an M/M/c/m queue in closed form.

For the M/M/c queue cut off at m requests in the system, the blocked fraction is
(1 - rho) x / (1 - rho x) with x = P(N >= m) of the uncut queue (the cut queue's states keep
their proportions). With P(wait) = rho^k (Sakasegawa, see `curve`) x becomes rho^n,
n = k + m - c, and

    blocked = (1 - rho) rho^n / (1 - rho^(n+1))

which also holds beyond saturation, where it tends to 1 - 1/rho. A limit below c makes a
cluster of m slots.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from eigenmesh.mesh.curve import Array, pool_exponent
from eigenmesh.mesh.errors import MeshError

_NEAR_ONE = 1e-5


def _parts(
    load: ArrayLike, t0: ArrayLike, capacity: ArrayLike, limit: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    load, t0, capacity, limit = (
        np.asarray(x, dtype=np.float64) for x in (load, t0, capacity, limit)
    )
    full = np.maximum(1.0, capacity * t0)
    servers = np.minimum(full, np.maximum(limit, 1.0))
    rho = np.maximum(load, 0.0) / (capacity * servers / full)
    # A removable singularity at rho = 1: step around it, the formulas are continuous there.
    rho = np.where(np.abs(rho - 1.0) < _NEAR_ONE, 1.0 - _NEAR_ONE, rho)
    queue = np.maximum(limit, 1.0) - servers
    return rho, servers, queue, pool_exponent(servers)


def blocked_fraction(
    load: ArrayLike, t0: ArrayLike, capacity: ArrayLike, limit: ArrayLike
) -> Array:
    """Fraction of the offered requests that a limit of `limit` in flight rejects; broadcasts."""
    rho, _, queue, k = _parts(load, t0, capacity, limit)
    n = k + queue
    # Above saturation, divide both by rho^(n+1): large powers of rho never appear.
    low = np.minimum(rho, 1.0)
    below = (1.0 - low) * low**n / np.maximum(1.0 - low ** (n + 1.0), 1e-300)
    inverse = 1.0 / np.maximum(rho, 1.0 + _NEAR_ONE)
    above = (1.0 - inverse) / (1.0 - inverse ** (n + 1.0))
    out: Array = np.where(rho < 1.0, below, above)
    return out


def least_limit(load: float, t0: float, capacity: float, probability: float) -> int:
    """The smallest limit that turns away at most this fraction of Poisson arrivals at `load`
    requests/s. Raises MeshError at or beyond capacity, where every limit turns away more."""
    rho = load / capacity
    if not 0.0 <= rho < 1.0:
        raise MeshError("load", load, f"use a load below the capacity of {capacity:g}")
    limit = max(1, math.ceil(capacity * t0))
    while float(blocked_fraction(load, t0, capacity, limit)) > probability:
        limit += max(1, limit // 16)
    while limit > 1 and float(blocked_fraction(load, t0, capacity, limit - 1)) <= probability:
        limit -= 1
    return limit


def admitted_latency(
    load: ArrayLike,
    t0: ArrayLike,
    capacity: ArrayLike,
    limit: ArrayLike,
    variability: ArrayLike = 1.0,
) -> Array:
    """Mean latency in seconds of what the limit admits; bounded even beyond capacity."""
    rho, servers, queue, k = _parts(load, t0, capacity, limit)
    v = np.asarray(variability, dtype=np.float64)
    # Mean of the queue, whose length is geometric with ratio rho and cut at `queue`.
    low = np.clip(rho, 1e-12, 1.0 - _NEAR_ONE)
    q = queue
    head = 1.0 - low
    cut = low**q
    lq_below = low**k * low * (1.0 - cut * (1.0 + q * head)) / head
    lq_below = lq_below / (1.0 - low ** (k + q + 1.0))
    w = 1.0 / np.maximum(rho, 1.0 + _NEAR_ONE)
    tail = 1.0 - w
    # Above saturation the queue is full but for a geometric gap of ratio 1/rho.
    gap = w * (1.0 - w**q * (1.0 + q * tail)) / tail
    lq_above = (q * (1.0 - w ** (q + 1.0)) - gap) / (1.0 - w ** (k + q + 1.0))
    lq = np.where(rho < 1.0, lq_below, np.maximum(lq_above, 0.0))
    carried = rho * servers * (1.0 - blocked_fraction(load, t0, capacity, limit))
    out: Array = np.asarray(t0) * (1.0 + v * lq / np.maximum(carried, 1e-12))
    return out
