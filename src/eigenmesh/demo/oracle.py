"""The best that fixed weights can do, for one who knows the true capacities.

Each upstream is an M/M/c queue: Poisson arrivals (a Poisson stream split at random is Poisson
again), exponential service, c slots, FIFO. Its mean time in system is exact:

    T(load) = s + C(c, a) / (c / s - load),   a = load s

with C Erlang's delay formula (A. K. Erlang, 1917; L. Kleinrock, Queueing Systems I, 1975, 3.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, minimize
from scipy.special import gammaln, pdtr


@dataclass(frozen=True, slots=True)
class Upstream:
    """What an upstream truly is. service_time: mean seconds of one request on one slot."""

    name: str
    slots: int
    service_time: float

    @property
    def capacity(self) -> float:
        """Requests/s."""
        return self.slots / self.service_time

    def degraded(self, slots: int, service_time: float) -> Upstream:
        return replace(self, slots=slots, service_time=service_time)

    def mean_latency(self, load: float) -> float:
        """Mean seconds in system at `load` requests/s; infinite from the capacity on."""
        if load >= self.capacity:
            return float("inf")
        return self.service_time + self.wait_probability(load) / (self.capacity - load)

    def wait_probability(self, load: float) -> float:
        """Erlang's C: the fraction of requests that find every slot busy."""
        offered = load * self.service_time
        if offered <= 0.0:
            return 0.0
        c = self.slots
        # Erlang's B is a Poisson distribution cut off at c; C follows from it.
        blocked = np.exp(c * np.log(offered) - offered - gammaln(c + 1.0)) / pdtr(c, offered)
        return float(blocked / (1.0 - (offered / c) * (1.0 - blocked)))


@dataclass(frozen=True)
class Optimum:
    """weights: fractions by upstream. mean: rate-weighted mean latency in seconds."""

    weights: Mapping[str, float]
    mean: float


def mean_latency(
    upstreams: Sequence[Upstream], weights: Mapping[str, float], demand: float
) -> float:
    """Rate-weighted mean seconds of `demand` requests/s split by `weights`."""
    return sum(
        weights[u.name] * u.mean_latency(weights[u.name] * demand)
        for u in upstreams
        if weights[u.name] > 0.0
    )


def proportional(upstreams: Sequence[Upstream]) -> dict[str, float]:
    """Weights in proportion to the capacities."""
    total = sum(u.capacity for u in upstreams)
    return {u.name: u.capacity / total for u in upstreams}


def best_weights(upstreams: Sequence[Upstream], demand: float) -> Optimum:
    """The weights of least mean latency for `demand` requests/s.

    Raises ValueError when the demand is not below the total capacity.
    """
    total = sum(u.capacity for u in upstreams)
    if demand >= total:
        raise ValueError(f"demand: {demand:g}: use less than the total capacity, {total:g}")
    highest = np.array([min(1.0, 0.999 * u.capacity / demand) for u in upstreams])

    def cost(x: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        split = {u.name: float(w) for u, w in zip(upstreams, x, strict=True)}
        return 1e3 * mean_latency(upstreams, split, demand)

    # The cost is convex in the weights, so what a local method finds is the optimum.
    found = minimize(
        cost,
        np.array(list(proportional(upstreams).values())),
        method="SLSQP",
        bounds=Bounds(np.zeros(len(upstreams)), highest),
        constraints=LinearConstraint(np.ones((1, len(upstreams))), 1.0, 1.0),
        options={"ftol": 1e-10, "maxiter": 200},
    )
    x = np.clip(found.x, 0.0, 1.0)
    weights = {u.name: float(w) for u, w in zip(upstreams, x / x.sum(), strict=True)}
    return Optimum(weights, mean_latency(upstreams, weights, demand))
