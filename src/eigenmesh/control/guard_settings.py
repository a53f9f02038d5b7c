"""`guard` in the settings: what may be pushed, per mesh, route and cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from eigenmesh.control.duration import Seconds
from eigenmesh.control.fast_settings import FastSettings
from eigenmesh.control.storm_settings import StormSettings
from eigenmesh.control.strict import Strict
from eigenmesh.guard.calendar import check_window
from eigenmesh.mesh import (
    Bounds,
    FreezeWindow,
    GuardPolicy,
    MeshError,
    ProbePolicy,
    Steps,
    VerifyPolicy,
)

Fraction = Annotated[float, Field(ge=0, le=1)]
ModeName = Literal["observe", "approve", "auto"]


class WeightBounds(Strict):
    min_weight: Fraction | None = None
    """Smallest weight; unset: as one level above."""
    max_weight: Fraction | None = None
    """Largest weight; unset: as one level above."""

    def over(self, default: Bounds) -> Bounds:
        low = default.min_weight if self.min_weight is None else self.min_weight
        high = default.max_weight if self.max_weight is None else self.max_weight
        return Bounds(low, high)


class RouteClusterGuard(WeightBounds):
    canary: Fraction | None = None
    """Largest weight until the cluster is promoted (`eigenmesh ctl promote`)."""


class RouteGuard(WeightBounds):
    """Of one route; None: as for the mesh."""

    mode: ModeName = "auto"
    """Of its weights, if it is stricter than the mesh's."""
    max_step: Annotated[float, Field(gt=0, le=1)] | None = None
    """Largest change of one weight in one push; unset: the mesh's."""
    deadband: Fraction | None = None
    """Changes of all its weights below this are not pushed; unset: the mesh's."""
    clusters: dict[str, RouteClusterGuard] = {}
    """Of its clusters."""


class ClusterGuard(Strict):
    """Of one cluster's limits; None: as for the mesh."""

    mode: ModeName = "auto"
    """Of its limits, if it is stricter than the mesh's."""
    min_limit: Annotated[int, Field(ge=1)] | None = None
    """Smallest `max_requests`; unset: the mesh's. Unit: requests in flight."""
    max_limit: Annotated[int, Field(ge=1)] | None = None
    """Largest `max_requests`; unset: the mesh's. Unit: requests in flight."""


class Probe(Strict):
    """Traffic shifted to learn a capacity; see ProbePolicy."""

    rise: Fraction = ProbePolicy.rise
    """By how much a weight grows, relative to itself; 0: no probes."""
    doubt: Annotated[float, Field(gt=0)] = ProbePolicy.doubt
    """Capacities are probed whose stated error is above this. Unit: standard deviation of the
    logarithm."""
    seconds: Annotated[Seconds, Field(gt=0)] = ProbePolicy.seconds
    """How long a probe lasts."""
    share: Annotated[float, Field(gt=0, le=1)] = ProbePolicy.share
    """Largest part of the time that is spent on probes."""
    max_cost: Fraction = ProbePolicy.max_cost
    """Largest predicted loss, relative to the plan that it departs from."""


class Verify(Strict):
    """How a plan is held to its promise; see VerifyPolicy."""

    enabled: bool = VerifyPolicy.enabled
    """Roll a plan back that is worse than the last good one."""
    windows: Annotated[int, Field(ge=2)] = VerifyPolicy.windows
    """Before the first verdict. Unit: observations."""
    patience: Annotated[int, Field(ge=2)] = VerifyPolicy.patience
    """Before the last verdict. Unit: observations."""
    tolerance: Annotated[float, Field(ge=0)] = VerifyPolicy.tolerance
    """By how much a plan may be worse than the last good one. Unit: fraction of its cost."""
    doubtful: Annotated[float, Field(gt=0, lt=0.5)] = VerifyPolicy.doubtful
    """Probability that a plan is rolled back which is no worse."""
    doubt: Annotated[float, Field(gt=0)] = VerifyPolicy.doubt
    """How far predictions are off where nothing is known of it. Unit: fraction."""
    rollbacks: Annotated[int, Field(ge=0)] = VerifyPolicy.rollbacks
    """So many within `within` end the steering; 0: never. Unit: rollbacks."""
    within: Annotated[Seconds, Field(gt=0)] = VerifyPolicy.within
    """The time in which rollbacks are counted."""


class Freeze(Strict):
    """Nothing is pushed for a time from each moment that `cron` names."""

    cron: str
    """When it begins, five fields."""
    duration: Annotated[Seconds, Field(gt=0)]
    """How long it lasts."""
    zone: str = "UTC"
    """Time zone of `cron`, such as Europe/Rome."""

    @model_validator(mode="after")
    def _can_be_told(self) -> Freeze:
        try:
            check_window(self.window())
        except MeshError as error:
            raise ValueError(f"{error.field}: {error.value!r}: {error.remedy}") from error
        return self

    def window(self) -> FreezeWindow:
        return FreezeWindow(self.cron, self.duration, self.zone)


class Guard(Strict):
    """What may be pushed; see GuardPolicy."""

    min_weight: Fraction = 0.02
    """Smallest weight of a cluster on a route."""
    max_weight: Fraction = 0.98
    """Largest weight of a cluster on a route."""
    max_step: Annotated[float, Field(gt=0, le=1)] = GuardPolicy.max_step
    """Largest change of one weight in one push."""
    emergency_step: Annotated[float, Field(gt=0, le=1)] = GuardPolicy.emergency_step
    """In place of `max_step` on a route of which a cluster fails most of its requests."""
    deadband: Fraction = GuardPolicy.deadband
    """Changes of all weights of a route below this are not pushed."""
    probe_floor: Fraction = GuardPolicy.probe_floor
    """Smallest weight that keeps a cluster's curve observable."""
    min_gain: Fraction = GuardPolicy.min_gain
    """Predicted improvement below which nothing is pushed."""
    max_limit_step: Annotated[float, Field(gt=1)] = GuardPolicy.max_limit_step
    """Largest change of one limit in one push. Unit: factor."""
    min_limit: Annotated[int, Field(ge=1)] = GuardPolicy.min_limit
    """Smallest `max_requests`. Unit: requests in flight."""
    max_limit: Annotated[int, Field(ge=1)] = GuardPolicy.max_limit
    """Largest `max_requests`. Unit: requests in flight."""
    false_open: Annotated[float, Field(gt=0, lt=1)] = GuardPolicy.false_open
    """Largest part of a normal demand that a limit may be expected to turn away."""
    max_age: Seconds = GuardPolicy.max_age
    """Older data is no data, and moves nothing."""
    bake: Seconds = GuardPolicy.bake
    """After a push, until the next one may be made."""
    changes_per_hour: Annotated[int, Field(ge=0)] = GuardPolicy.changes_per_hour
    """Most pushes in any hour; 0: no such limit. Unit: pushes."""
    freeze: list[Freeze] = []
    """When nothing is pushed."""
    surge: Annotated[float, Field(ge=1)] = GuardPolicy.surge
    """Growth of the demand from which weights are drawn toward the clusters' capacities. Unit:
    times the expected demand."""
    verify: Verify = Verify()
    """How a plan is held to its promise; see [operate](operate.md#verification-and-roll-back)."""
    probe: Probe = Probe()
    """Traffic shifted to learn a capacity; see [the model](model.md#probes)."""
    storm: StormSettings = StormSettings()
    """When retries are taken for a storm; see [retries](retries.md#storms)."""
    fast: FastSettings = FastSettings()
    """What is lowered between two decisions; see [the fast guard](fast-guard.md)."""
    routes: dict[str, RouteGuard] = {}
    """Of one route's weights, where they are not the mesh's."""
    clusters: dict[str, ClusterGuard] = {}
    """Of one cluster's limits, where they are not the mesh's."""

    @model_validator(mode="after")
    def _in_order(self) -> Guard:
        if self.min_limit > self.max_limit:
            raise ValueError(
                f"min_limit {self.min_limit} is above max_limit {self.max_limit}; "
                "lower one or raise the other"
            )
        if self.min_weight > self.max_weight:
            raise ValueError(
                f"min_weight {self.min_weight} is above max_weight {self.max_weight}; "
                "lower one or raise the other"
            )
        return self

    def modes(self) -> Iterator[tuple[str, str]]:
        """("route NAME" or "cluster NAME", mode) where it is not the mesh's."""
        for kind, own in (("route", self.routes), ("cluster", self.clusters)):
            yield from ((f"{kind} {name}", one.mode) for name, one in own.items())

    def policy(self) -> GuardPolicy:
        """Raises MeshError."""
        default = Bounds(self.min_weight, self.max_weight)
        overrides: dict[tuple[str, str], Bounds] = {}
        canaries: dict[tuple[str, str], float] = {}
        for route, own in self.routes.items():
            try:
                whole = own.over(default)
                overrides[(route, "")] = whole
                for cluster, bounds in own.clusters.items():
                    overrides[(route, cluster)] = bounds.over(whole)
                    if bounds.canary is not None:
                        canaries[route, cluster] = bounds.canary
            except MeshError as error:
                raise MeshError(f"guard.routes.{route}", error.value, error.remedy) from error
        verify = self.verify.model_dump()
        try:
            verified = VerifyPolicy(**verify)
        except MeshError as error:
            raise MeshError(f"guard.{error.field}", error.value, error.remedy) from error
        return GuardPolicy(
            bounds=default,
            cluster_bounds=overrides,
            max_step=self.max_step,
            emergency_step=self.emergency_step,
            deadband=self.deadband,
            probe_floor=self.probe_floor,
            min_gain=self.min_gain,
            max_limit_step=self.max_limit_step,
            min_limit=self.min_limit,
            max_limit=self.max_limit,
            false_open=self.false_open,
            max_age=self.max_age,
            probe=ProbePolicy(**self.probe.model_dump()),
            storm=self.storm.policy(),
            fast=self.fast.policy(),
            bake=self.bake,
            changes_per_hour=self.changes_per_hour,
            freeze=tuple(one.window() for one in self.freeze),
            canaries=canaries,
            surge=self.surge,
            verify=verified,
            steps={
                route: Steps(
                    self.max_step if own.max_step is None else own.max_step,
                    self.deadband if own.deadband is None else own.deadband,
                )
                for route, own in self.routes.items()
                if own.max_step is not None or own.deadband is not None
            },
            limits={
                name: self._limits(name, own)
                for name, own in self.clusters.items()
                if own.min_limit is not None or own.max_limit is not None
            },
        )

    def _limits(self, cluster: str, own: ClusterGuard) -> tuple[int, int]:
        low = self.min_limit if own.min_limit is None else own.min_limit
        high = self.max_limit if own.max_limit is None else own.max_limit
        if low > high:
            remedy = f"it is above max_limit {high}; lower one or raise the other"
            raise MeshError(f"guard.clusters.{cluster}.min_limit", low, remedy)
        return low, high
