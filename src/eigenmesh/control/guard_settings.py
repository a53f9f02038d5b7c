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
    max_weight: Fraction | None = None

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
    deadband: Fraction | None = None
    clusters: dict[str, RouteClusterGuard] = {}


class ClusterGuard(Strict):
    """Of one cluster's limits; None: as for the mesh."""

    mode: ModeName = "auto"
    min_limit: Annotated[int, Field(ge=1)] | None = None
    max_limit: Annotated[int, Field(ge=1)] | None = None


class Probe(Strict):
    """Traffic shifted to learn a capacity; see ProbePolicy."""

    rise: Fraction = ProbePolicy.rise
    doubt: Annotated[float, Field(gt=0)] = ProbePolicy.doubt
    seconds: Annotated[Seconds, Field(gt=0)] = ProbePolicy.seconds
    share: Annotated[float, Field(gt=0, le=1)] = ProbePolicy.share
    max_cost: Fraction = ProbePolicy.max_cost


class Verify(Strict):
    """How a plan is held to its promise; see VerifyPolicy."""

    enabled: bool = VerifyPolicy.enabled
    windows: Annotated[int, Field(ge=2)] = VerifyPolicy.windows
    patience: Annotated[int, Field(ge=2)] = VerifyPolicy.patience
    tolerance: Annotated[float, Field(ge=0)] = VerifyPolicy.tolerance
    doubtful: Annotated[float, Field(gt=0, lt=0.5)] = VerifyPolicy.doubtful
    doubt: Annotated[float, Field(gt=0)] = VerifyPolicy.doubt
    rollbacks: Annotated[int, Field(ge=0)] = VerifyPolicy.rollbacks
    within: Annotated[Seconds, Field(gt=0)] = VerifyPolicy.within


class Freeze(Strict):
    """Nothing is pushed for a time from each moment that `cron` names."""

    cron: str
    duration: Annotated[Seconds, Field(gt=0)]
    zone: str = "UTC"

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
    max_weight: Fraction = 0.98
    max_step: Annotated[float, Field(gt=0, le=1)] = GuardPolicy.max_step
    emergency_step: Annotated[float, Field(gt=0, le=1)] = GuardPolicy.emergency_step
    deadband: Fraction = GuardPolicy.deadband
    probe_floor: Fraction = GuardPolicy.probe_floor
    min_gain: Fraction = GuardPolicy.min_gain
    max_limit_step: Annotated[float, Field(gt=1)] = GuardPolicy.max_limit_step
    min_limit: Annotated[int, Field(ge=1)] = GuardPolicy.min_limit
    max_limit: Annotated[int, Field(ge=1)] = GuardPolicy.max_limit
    false_open: Annotated[float, Field(gt=0, lt=1)] = GuardPolicy.false_open
    max_age: Seconds = GuardPolicy.max_age
    bake: Seconds = GuardPolicy.bake
    changes_per_hour: Annotated[int, Field(ge=0)] = GuardPolicy.changes_per_hour
    freeze: list[Freeze] = []
    surge: Annotated[float, Field(ge=1)] = GuardPolicy.surge
    verify: Verify = Verify()
    probe: Probe = Probe()
    storm: StormSettings = StormSettings()
    fast: FastSettings = FastSettings()
    routes: dict[str, RouteGuard] = {}
    clusters: dict[str, ClusterGuard] = {}

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
