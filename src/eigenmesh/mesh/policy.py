"""What the operator wants (objective) and allows (guard)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eigenmesh.mesh.errors import MeshError


@dataclass(frozen=True, slots=True)
class Scenario:
    """A demand to plan for: the observed one times `demand_factor`, counted with `weight`."""

    demand_factor: float
    weight: float


@dataclass(frozen=True)
class ObjectivePolicy:
    """Prices that make one number of a plan, in seconds per request.

    quantile: of a cluster's latency that counts, a fraction; None: the mean. Over several
        clusters, or calls, quantiles are weighted and summed as means are, which is not the
        quantile of the whole.
    slo: seconds; that latency of a cluster beyond it is charged `slo_price` times over.
    error_price: seconds of latency that one failed or rejected request is worth.
    churn_price: seconds charged for moving all traffic of the mesh to other clusters.
    limit_churn_price: seconds charged for moving every limit by one rung.
    spill: fraction of rejected requests that come back and are spread by the route's weights
        (client retries): what couples the clusters' limits.
    ladder: breaker rungs as multiples of the in-flight requests at the curve's knee, increasing;
        their number is a power of two (Gray-coded into qubits).
    knee: utilisation taken as the knee.
    """

    quantile: float | None = None
    slo: float = 0.1
    slo_price: float = 2.0
    error_price: float = 1.0
    churn_price: float = 0.0005
    limit_churn_price: float = 0.0002
    spill: float = 0.5
    scenarios: tuple[Scenario, ...] = (Scenario(1.0, 0.8), Scenario(1.3, 0.2))
    ladder: tuple[float, ...] = (2.0, 3.5, 6.0, 10.0)
    knee: float = 0.8

    def __post_init__(self) -> None:
        if self.quantile is not None and not 0.0 < self.quantile < 1.0:
            raise MeshError("quantile", self.quantile, "use a fraction between 0 and 1, or none")
        if len(self.ladder) & (len(self.ladder) - 1) or not self.ladder:
            raise MeshError("ladder", list(self.ladder), "give 2, 4, 8, ... rungs")
        if list(self.ladder) != sorted(set(self.ladder)) or self.ladder[0] <= 0:
            raise MeshError("ladder", list(self.ladder), "use increasing factors above 0")
        if not self.scenarios or any(s.weight <= 0 or s.demand_factor <= 0 for s in self.scenarios):
            raise MeshError("scenarios", self.scenarios, "use weights and factors above 0")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Smallest and largest weight of a cluster on a route (fractions)."""

    min_weight: float = 0.02
    max_weight: float = 0.98

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_weight <= self.max_weight <= 1.0:
            raise MeshError(
                "bounds",
                f"[{self.min_weight}, {self.max_weight}]",
                "use 0 <= min_weight <= max_weight <= 1",
            )


@dataclass(frozen=True)
class ProbePolicy:
    """Small deliberate shifts of traffic that show a capacity which steady load does not.

    rise: by how much a cluster's weight grows, relative to itself (0: no probes); never by more
    than `GuardPolicy.max_step`. doubt: capacities are probed whose stated error
    (`CurveEstimate.capacity_error`) is above this. seconds: how long a probe lasts. share: largest
    fraction of the time that is spent on probes. max_cost: largest predicted loss of a probe,
    relative to the plan that it departs from.
    """

    rise: float = 0.0
    doubt: float = 0.3
    seconds: float = 20.0
    share: float = 0.4
    max_cost: float = 0.05

    def __post_init__(self) -> None:
        if self.rise < 0:
            raise MeshError("probe.rise", self.rise, "use 0 for no probes, or more")
        if self.seconds <= 0:
            raise MeshError("probe.seconds", self.seconds, "use more than 0")
        if not 0.0 < self.share <= 1.0:
            raise MeshError("probe.share", self.share, "use more than 0 and at most 1")


@dataclass(frozen=True)
class StormPolicy:
    """When retries are a storm (`guard.storm`), and how its damping is let go.

    amplification: attempts / first attempts from which on they may be one. goodput: fraction of
    the requests below which so many succeed then. quiet: seconds without a sign of the storm after
    which more retries are allowed again, one step at a time. enabled: False: nothing is damped.
    """

    amplification: float = 1.2
    goodput: float = 0.9
    quiet: float = 5.0
    enabled: bool = True

    def __post_init__(self) -> None:
        if not self.amplification > 1.0:
            raise MeshError("storm.amplification", self.amplification, "use more than 1")
        if not 0.0 < self.goodput <= 1.0:
            raise MeshError("storm.goodput", self.goodput, "use more than 0 and at most 1")
        if not self.quiet > 0:
            raise MeshError("storm.quiet", self.quiet, "use more than 0 seconds")


@dataclass(frozen=True)
class FastPolicy:
    """What may be lowered between two decisions (`guard.fast`).

    interval: seconds between two looks. tolerance: factor above the curve's latency beyond which a
    cluster may be running away. lowest: fraction of the plan's limit that is always left. enabled:
    False: nothing is lowered.
    """

    enabled: bool = True
    interval: float = 1.0
    tolerance: float = 2.0
    lowest: float = 0.25

    def __post_init__(self) -> None:
        if not self.interval > 0:
            raise MeshError("fast.interval", self.interval, "use more than 0 seconds")
        if not self.tolerance > 1.0:
            raise MeshError("fast.tolerance", self.tolerance, "use more than 1")
        if not 0.0 < self.lowest <= 1.0:
            raise MeshError("fast.lowest", self.lowest, "use more than 0 and at most 1")


@dataclass(frozen=True)
class VerifyPolicy:
    """How a plan is held to its promise; see `guard.verify`. enabled: False: it is not.

    windows, patience: observations before the first and the last verdict. tolerance: by how much
    (relative) a plan may be worse than the last good one. doubtful: probability that a plan which
    is no worse than that is rolled back. doubt: how far (relative) predictions are off where
    nothing is known of it. rollbacks: so many within `within` seconds end the steering; 0: never.
    """

    enabled: bool = True
    windows: int = 3
    patience: int = 12
    tolerance: float = 0.05
    doubtful: float = 0.01
    doubt: float = 0.3
    rollbacks: int = 3
    within: float = 3600.0

    def __post_init__(self) -> None:
        if self.windows < 2:
            raise MeshError("verify.windows", self.windows, "use 2 or more: one has no spread")
        if self.patience < self.windows:
            raise MeshError("verify.patience", self.patience, f"use {self.windows} or more")
        if not 0.0 < self.doubtful < 0.5:
            raise MeshError("verify.doubtful", self.doubtful, "use a probability below one half")


@dataclass(frozen=True, slots=True)
class FreezeWindow:
    """Nothing is pushed for `seconds` from each time that `cron` names, in the time zone `zone`."""

    cron: str
    seconds: float
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Steps:
    """max_step, deadband: of one route's weights; see GuardPolicy."""

    max_step: float
    deadband: float


@dataclass(frozen=True)
class GuardPolicy:
    """What may be pushed.

    bounds: for every route; `cluster_bounds` overrides them by (route, cluster), and by (route,
    "") for a whole route. max_step: largest change of one weight in one push. deadband: changes of
    all weights of a route smaller than this are not pushed. probe_floor: smallest share that keeps
    a cluster's curve observable. min_gain: relative predicted improvement below which nothing is
    pushed. max_limit_step: largest factor by which one limit moves in one push. min_limit,
    max_limit: range of max_requests. false_open: largest fraction of a normal demand (below the
    capacity) that a limit may be expected to turn away. max_age: seconds; older data is no data.
    probe: none by default. storm: of retries. fast: between decisions.

    bake: seconds after a push in which no other is made. changes_per_hour: pushes in any hour; 0:
    no such limit. freeze: when nothing is pushed. canaries: (route, cluster) -> largest weight
    until the cluster is promoted. surge: growth of the demand, relative to what was expected, from
    which weights are drawn toward the clusters' shares of the capacity. verify: after each push.

    emergency_step: largest change of one weight in one push on a route of which a cluster fails
    most of its requests. steps: of routes whose max_step or deadband is not the mesh's. limits:
    cluster -> (min_limit, max_limit) where they are not the mesh's.
    """

    bounds: Bounds = field(default_factory=Bounds)
    cluster_bounds: Mapping[tuple[str, str], Bounds] = field(default_factory=dict)
    max_step: float = 0.1
    deadband: float = 0.01
    probe_floor: float = 0.02
    min_gain: float = 0.01
    max_limit_step: float = 2.0
    min_limit: int = 8
    max_limit: int = 1024
    false_open: float = 0.005
    max_age: float = 15.0
    probe: ProbePolicy = field(default_factory=ProbePolicy)
    storm: StormPolicy = field(default_factory=StormPolicy)
    fast: FastPolicy = field(default_factory=FastPolicy)
    bake: float = 0.0
    changes_per_hour: int = 0
    freeze: tuple[FreezeWindow, ...] = ()
    canaries: Mapping[tuple[str, str], float] = field(default_factory=dict)
    surge: float = 1.5
    verify: VerifyPolicy = field(default_factory=VerifyPolicy)
    emergency_step: float = 0.5
    steps: Mapping[str, Steps] = field(default_factory=dict)
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def steps_of(self, route: str) -> Steps:
        return self.steps.get(route) or Steps(self.max_step, self.deadband)

    def limits_of(self, cluster: str) -> tuple[int, int]:
        """(min_limit, max_limit) of its max_requests."""
        return self.limits.get(cluster, (self.min_limit, self.max_limit))

    def bounds_of(self, route: str, cluster: str) -> Bounds:
        """Bounds of one weight, the probe floor included."""
        whole = self.cluster_bounds.get((route, ""), self.bounds)
        own = self.cluster_bounds.get((route, cluster), whole)
        if own.max_weight <= self.probe_floor:
            return own
        return Bounds(max(own.min_weight, self.probe_floor), own.max_weight)
