"""Small deliberate probes: a little more traffic for a cluster whose capacity is not known.

Steady load far below the knee tells nothing of a capacity. A probe raises one cluster's weights
for a few seconds, within its bounds and the largest step, and takes them back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from eigenmesh.guard.admit import project
from eigenmesh.mesh import CurveEstimate, GuardPolicy, Plan, Topology


@dataclass(frozen=True, slots=True)
class Probe:
    """`plan` may be pushed for a while, `base` is what it departs from. began: seconds.

    cost: predicted loss of the plan, relative to base.
    """

    cluster: str
    base: Plan
    plan: Plan
    began: float
    cost: float


class Prober:
    """Says when to probe what, and when to stop. Seconds are those of the caller's clock."""

    def __init__(self, topology: Topology, policy: GuardPolicy) -> None:
        self._topology = topology
        self._guard = policy
        self._policy = policy.probe
        self._probed: dict[str, float] = {}
        self.current: Probe | None = None

    def begin(
        self,
        incumbent: Plan,
        curves: Mapping[str, CurveEstimate],
        objective: Callable[[Plan], float],
        now: float,
    ) -> Probe | None:
        """A probe to push now, if one is due, worth it and cheap enough."""
        rest = self._policy.seconds / self._policy.share
        if self._policy.rise == 0 or now < max(self._probed.values(), default=-rest) + rest:
            return None
        doubtful = [
            name
            for name in self._topology.steered_clusters
            if name in curves and curves[name].capacity_error > self._policy.doubt
        ]
        # In turn, and the most doubtful of those whose turn it is.
        doubtful.sort(key=lambda n: (self._probed.get(n, -rest), -curves[n].capacity_error))
        base = objective(incumbent)
        for name in doubtful:
            plan = Plan(
                {route: self._raised(route, name, w) for route, w in incumbent.weights.items()},
                incumbent.limits,
            )
            if plan == incumbent:
                continue
            cost = objective(plan) / base - 1.0
            if cost <= self._policy.max_cost:
                self._probed[name] = now
                self.current = Probe(name, incumbent, plan, now, cost)
                return self.current
        return None

    def end(self, in_force: Plan, objective: Callable[[Plan], float], now: float) -> str | None:
        """Why the current probe's base is to be pushed; None while the probe may go on.

        A probe that is no longer in force is forgotten: somebody else has decided.
        """
        probe = self.current
        if probe is None:
            return None
        if in_force != probe.plan:
            self.current = None
            return None
        cost = objective(probe.plan) / objective(probe.base) - 1.0
        if cost > self._policy.max_cost:
            return f"the probe of {probe.cluster} costs {cost:.1%}, above probe.max_cost"
        if now >= probe.began + self._policy.seconds:
            return f"the probe of {probe.cluster} is over"
        return None

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so much."""
        self._probed = {name: time + seconds for name, time in self._probed.items()}
        if self.current is not None:
            self.current = replace(self.current, began=self.current.began + seconds)

    def _raised(
        self, route: str, cluster: str, weights: Mapping[str, float]
    ) -> Mapping[str, float]:
        """Weights with the cluster's own raised, at the cost of the others in proportion."""
        own = weights.get(cluster, 0.0)
        if not 0.0 < own < 1.0:
            return weights
        bounds = [self._guard.bounds_of(route, name) for name in weights]
        rise = min(self._policy.rise * own, self._guard.steps_of(route).max_step)
        rise = min(rise, self._guard.bounds_of(route, cluster).max_weight - own)
        if rise <= 0.0:
            return weights
        wanted = [
            w + rise if name == cluster else w * (1.0 - rise / (1.0 - own))
            for name, w in weights.items()
        ]
        bounded = project(wanted, [b.min_weight for b in bounds], [b.max_weight for b in bounds])
        return dict(zip(weights, bounded, strict=True))
