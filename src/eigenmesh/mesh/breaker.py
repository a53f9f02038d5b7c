"""What a circuit breaker's request limit does to a cluster: an M/M/c/m queue in closed form.

For the M/M/c queue cut off at m requests in the system, the blocked fraction is
(1 - rho) x / (1 - rho x) with x = P(N >= m) of the uncut queue (the cut queue's states keep
their proportions). With P(wait) = rho^k (Sakasegawa, see `curve`) x becomes rho^n,
n = k + m - c, and

    blocked = (1 - rho) rho^n / (1 - rho^(n+1))

which also holds beyond saturation, where it tends to 1 - 1/rho. A limit below c makes a
cluster of m slots.

Demand that swings is one of two loads, load (1 +- s), as likely each (the Markov-modulated
Poisson process of two states; W. Fischer, K. Meier-Hellstern, "The Markov-modulated Poisson
process (MMPP) cookbook", Performance Evaluation 18, 1993). A swing that is over before the queue
has noticed does nothing, so the queue feels

    s' = s sqrt(lasts / (lasts + T)),   T = (0.75 c + 2 (m - c)) / capacity

On infinitely many servers T = t0 gives the variance of the requests in flight exactly. The two
factors in T are ours, fitted to the exact chain: see `Burstiness` and docs/breaker-model.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from eigenmesh.mesh.curve import Array, pool_exponent
from eigenmesh.mesh.errors import MeshError

_NEAR_ONE = 1e-5


@dataclass(frozen=True, slots=True)
class Burstiness:
    """How the demand swings about its mean within a window.

    swing: standard deviation of the arrival rate relative to its mean (a fraction; 0: Poisson).
    lasts: seconds over which the rate stays correlated (its correlation falls as exp(-t/lasts)).
    The blocked fraction is within 3 points of the exact chain up to a swing of 0.5, and within 7
    at 0.8. Raises MeshError for a swing outside 0..1, or if lasts is not above 0.
    """

    swing: float = 0.0
    lasts: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.swing <= 1.0:
            raise MeshError("burstiness.swing", self.swing, "use a fraction from 0 to 1")
        if not self.lasts > 0.0:
            raise MeshError("burstiness.lasts", self.lasts, "use more than 0 seconds")

    def loads(
        self, load: ArrayLike, t0: ArrayLike, capacity: ArrayLike, limit: ArrayLike
    ) -> tuple[Array, ...]:
        """The loads (requests/s) between which a cluster of this limit is torn, equally likely."""
        load, t0, capacity, limit = (
            np.asarray(x, dtype=np.float64) for x in (load, t0, capacity, limit)
        )
        if self.swing == 0.0:
            return (load,)
        full = np.maximum(1.0, capacity * t0)
        servers = np.minimum(full, np.maximum(limit, 1.0))
        memory = 0.75 * t0 + 2.0 * (np.maximum(limit, 1.0) - servers) / capacity
        felt = self.swing * np.sqrt(self.lasts / (self.lasts + memory))
        return load * (1.0 - felt), load * (1.0 + felt)


POISSON = Burstiness()


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
    load: ArrayLike,
    t0: ArrayLike,
    capacity: ArrayLike,
    limit: ArrayLike,
    burstiness: Burstiness = POISSON,
) -> Array:
    """Fraction of the offered requests that a limit of `limit` in flight rejects; broadcasts."""
    loads = burstiness.loads(load, t0, capacity, limit)
    return _mean(loads, [_blocked(x, t0, capacity, limit) for x in loads])


def _mean(weights: Sequence[Array], values: Sequence[Array]) -> Array:
    if len(values) == 1:
        return values[0]
    total = sum((w * v for w, v in zip(weights, values, strict=True)), np.zeros(()))
    out: Array = total / np.maximum(sum(weights, np.zeros(())), 1e-12)
    return out


def _blocked(load: ArrayLike, t0: ArrayLike, capacity: ArrayLike, limit: ArrayLike) -> Array:
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
    burstiness: Burstiness = POISSON,
) -> Array:
    """Mean latency in seconds of what the limit admits; bounded even beyond capacity."""
    loads = burstiness.loads(load, t0, capacity, limit)
    admitted = [x * (1.0 - _blocked(x, t0, capacity, limit)) for x in loads]
    return _mean(admitted, [_latency(x, t0, capacity, limit, variability) for x in loads])


def _latency(
    load: ArrayLike, t0: ArrayLike, capacity: ArrayLike, limit: ArrayLike, variability: ArrayLike
) -> Array:
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
    carried = rho * servers * (1.0 - _blocked(load, t0, capacity, limit))
    out: Array = np.asarray(t0) * (1.0 + v * lq / np.maximum(carried, 1e-12))
    return out


def goodput(
    load: ArrayLike,
    t0: ArrayLike,
    capacity: ArrayLike,
    limit: ArrayLike,
    slo: float,
    burstiness: Burstiness = POISSON,
) -> Array:
    """Fraction of the offered requests that are admitted and answered within `slo` seconds.

    Who waits behind q others waits q / capacity seconds here, not a time that varies about it;
    service is exponential of mean t0. That is within 5 points of the exact chain for limits up to
    four times the slots, and within 7 when the demand swings by 0.5.
    """
    loads = burstiness.loads(load, t0, capacity, limit)
    return _mean(loads, [_in_time(x, t0, capacity, limit, slo) for x in loads])


def _in_time(
    load: ArrayLike, t0: ArrayLike, capacity: ArrayLike, limit: ArrayLike, slo: float
) -> Array:
    rho, servers, queue, k = _parts(load, t0, capacity, limit)
    t0 = np.asarray(t0, dtype=np.float64)
    # Of the admitted, (rho^k - rho^n) / (1 - rho^n) wait, with n = k + queue.
    low = np.minimum(rho, 1.0 - _NEAR_ONE)
    below = low**k * (1.0 - low**queue) / (1.0 - low ** (k + queue))
    w = 1.0 / np.maximum(rho, 1.0 + _NEAR_ONE)
    above = (1.0 - w**queue) / (1.0 - w ** (k + queue))
    waits = np.where(rho < 1.0, below, above)
    # Their place x in the queue has a density in proportion to rho^x, up to `queue`.
    speed = np.asarray(capacity) * servers / np.maximum(1.0, capacity * t0)
    reach = np.minimum(queue, slo * speed)
    growth = np.log(np.maximum(rho, 1e-12))
    shift = np.maximum(growth, 0.0) * queue
    whole = _area(growth, queue, shift)
    started = _area(growth, reach, shift)
    late = _area(growth + 1.0 / (speed * t0), reach, shift + slo / t0)
    waited = np.where(queue > 0.0, (started - late) / np.maximum(whole, 1e-300), 0.0)
    served = -np.expm1(-slo / t0)
    admitted = 1.0 - _blocked(load, t0, capacity, limit)
    out: Array = admitted * ((1.0 - waits) * served + waits * np.clip(waited, 0.0, 1.0))
    return out


def _area(rate: Array, end: Array, shift: Array) -> Array:
    """Integral of exp(rate x - shift) over x from 0 to end."""
    safe = np.where(np.abs(rate) < 1e-9, 1e-9, rate)
    out: Array = (np.exp(safe * end - shift) - np.exp(-shift)) / safe
    return out
