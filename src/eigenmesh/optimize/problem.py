"""What the optimiser is asked and what it answers. Both cross a process boundary by pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from eigenmesh.mesh import (
    Bounds,
    Candidate,
    GuardPolicy,
    LatencyCurve,
    MeshError,
    ObjectivePolicy,
    Plan,
    Topology,
)

Solver = Literal["best", "variational", "classical"]
"""best: the better plan under the objective wins. variational: the circuits' plan, unless it is
worse than the incumbent. classical: no circuit is run and PennyLane is not imported."""

Algorithm = Literal["qaoa", "qaoa-xy", "vqe"]
"""Gray code and X mixer; one-hot code and XY mixer; hardware-efficient ansatz, trained."""

_SLACK = 1e-9


@dataclass(frozen=True)
class CircuitSettings:
    """How circuits are run.

    device: PennyLane device name. pool: how many of them solve blocks of rungs side by side.
    max_qubits: largest block of rungs for one circuit. algorithm: what samples the rungs. shots:
    samples of a rung circuit. layers: QAOA depth; shipped angles must have it. family: instances
    that the angles were trained on; the mixture of all is as good on each at 10 layers. angles:
    another table of them (`eigenmesh train-angles`). refine: steps of training that follow the
    shipped angles, block by block. seconds: soft limit of one training of the weight circuits; at
    its end the best so far counts, so that a crowded mesh on a busy machine still gets an answer
    (which then depends on the clock: a seed reproduces a solution only if the limit is not
    reached).
    warm_start: how far QAOA with the X mixer leans toward the incumbent's rungs before it begins,
    in quarter turns of a qubit; 0: not at all. Without noise only.
    depolarising, readout: simulate a device that errs (`circuits.noise`): probability that a
    two-qubit gate depolarises its qubits, and of misreading a bit.
    """

    device: str = "lightning.qubit"
    pool: int = 1
    max_qubits: int = 12
    algorithm: Algorithm = "qaoa"
    shots: int = 1024
    layers: int = 10
    family: str = "mixture"
    angles: Path | None = None
    refine: int = 0
    warm_start: float = 0.1
    depolarising: float = 0.0
    readout: float = 0.0
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            names = ", ".join(get_args(Algorithm))
            raise MeshError("circuits.algorithm", self.algorithm, f"use one of: {names}")
        if not 0.0 <= self.depolarising <= 1.0:
            raise MeshError("circuits.depolarising", self.depolarising, "use 0 to 1")
        if not 0.0 <= self.readout < 0.5:
            raise MeshError("circuits.readout", self.readout, "use 0 or more, below 0.5")
        if (self.depolarising or self.readout) and self.algorithm != "qaoa":
            raise MeshError(
                "circuits.algorithm", self.algorithm, "noise is simulated for qaoa only"
            )
        if not 0.0 <= self.warm_start < 1.0:
            raise MeshError("circuits.warm_start", self.warm_start, "use 0 or more, below 1")
        if self.refine < 0:
            raise MeshError("circuits.refine", self.refine, "use 0 or more steps")
        for name in ("pool", "max_qubits", "shots", "layers"):
            if getattr(self, name) < 1:
                raise MeshError(f"circuits.{name}", getattr(self, name), "use 1 or more")
        if not self.seconds > 0:
            raise MeshError("circuits.seconds", self.seconds, "use a number above 0")


@dataclass(frozen=True)
class Problem:
    """One decision to make.

    demands: route -> requests/s expected, for every route. curves: cluster -> curve, for
    every cluster that a route uses. incumbent: the plan in force. objective: prices and
    scenarios. guard: its bounds and limit range are constraints here; its step limits are not
    (the guard applies them afterwards). seed: makes the solution reproducible. tails: cluster ->
    what its quantiles are times the curve's, where that was measured (`CurveEstimate.tail`).
    failures: cluster -> fraction of its attempts that the upstream fails, timeouts apart.

    Raises MeshError for anything a solver could not answer sensibly.
    """

    topology: Topology
    demands: Mapping[str, float]
    curves: Mapping[str, LatencyCurve]
    incumbent: Plan
    objective: ObjectivePolicy = field(default_factory=ObjectivePolicy)
    guard: GuardPolicy = field(default_factory=GuardPolicy)
    seed: int = 0
    solver: Solver = "best"
    tails: Mapping[str, float] = field(default_factory=dict)
    circuits: CircuitSettings = field(default_factory=CircuitSettings)
    failures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Own copies: the caller's mappings may change, or may not pickle.
        object.__setattr__(self, "demands", dict(self.demands))
        object.__setattr__(self, "curves", dict(self.curves))
        object.__setattr__(self, "tails", dict(self.tails))
        object.__setattr__(self, "failures", dict(self.failures))
        if self.solver not in get_args(Solver):
            raise MeshError("solver", self.solver, f"use one of: {', '.join(get_args(Solver))}")
        if self.seed < 0:
            raise MeshError("seed", self.seed, "use 0 or more")
        self._check_demands()
        self._check_clusters()
        self._check_bounds()
        self._check_policy()

    def bounds_of(self, route: str, cluster: str) -> Bounds:
        """Bounds of one weight. A route's only cluster carries all of it, whatever they say."""
        if len(self.topology.route_by_name[route].clusters) == 1:
            return Bounds(1.0, 1.0)
        return self.guard.bounds_of(route, cluster)

    def _check_demands(self) -> None:
        if not self.topology.routes:
            raise MeshError("topology.routes", [], "give at least one route")
        for route in self.topology.routes:
            demand = self.demands.get(route.name)
            if demand is None or not (math.isfinite(demand) and demand >= 0):
                raise MeshError(
                    f"demands.{route.name}",
                    demand,
                    "give a finite rate of 0 or more, or leave the route out of the topology",
                )
        for name in self.demands:
            if name not in self.topology.route_by_name:
                raise MeshError(
                    f"demands.{name}",
                    self.demands[name],
                    f"use a route of the topology: {', '.join(self.topology.route_by_name)}",
                )
        if sum(self.demands.values()) <= 0:
            raise MeshError("demands", self.demands, "with no traffic there is nothing to decide")

    def _check_clusters(self) -> None:
        for name in self.topology.steered_clusters:
            if name not in self.curves:
                raise MeshError(
                    f"curves.{name}",
                    None,
                    "leave a cluster without a curve out of the topology and hold its weight",
                )
        for name, part in self.failures.items():
            if not 0.0 <= part <= 1.0:
                raise MeshError(f"failures.{name}", part, "use a fraction from 0 to 1")
        for route in self.topology.routes:
            split = self.incumbent.weights.get(route.name)
            if split is None:
                raise MeshError(
                    f"incumbent.weights.{route.name}", None, "give the weights in force"
                )
            strange = {c: w for c, w in split.items() if c not in route.clusters and w > _SLACK}
            if strange:
                raise MeshError(
                    f"incumbent.weights.{route.name}",
                    strange,
                    "leave these clusters out and scale the others to sum to 1",
                )

    def _check_bounds(self) -> None:
        for route in self.topology.routes:
            bounds = [self.bounds_of(route.name, cluster) for cluster in route.clusters]
            low = sum(b.min_weight for b in bounds)
            high = sum(b.max_weight for b in bounds)
            if low > 1.0 + _SLACK:
                raise MeshError(
                    f"bounds.{route.name}",
                    f"smallest weights of {len(bounds)} clusters sum to {low:.4g}",
                    "lower min_weight or probe_floor until they sum to 1 or less",
                )
            if high < 1.0 - _SLACK:
                raise MeshError(
                    f"bounds.{route.name}",
                    f"largest weights of {len(bounds)} clusters sum to {high:.4g}",
                    "raise max_weight until they sum to 1 or more",
                )

    def _check_policy(self) -> None:
        policy = self.objective
        prices = ("slo_price", "error_price", "churn_price", "limit_churn_price")
        for name in prices:
            value = getattr(policy, name)
            if not (math.isfinite(value) and value >= 0):
                raise MeshError(f"objective.{name}", value, "use a finite number of 0 or more")
        if not (math.isfinite(policy.slo) and policy.slo > 0):
            raise MeshError("objective.slo", policy.slo, "use seconds above 0")
        if not 0.0 <= policy.spill <= 1.0:
            raise MeshError("objective.spill", policy.spill, "use a fraction from 0 to 1")
        if not 0.0 < policy.knee < 1.0:
            raise MeshError("objective.knee", policy.knee, "use a utilisation between 0 and 1")
        for number, scenario in enumerate(policy.scenarios):
            if not (math.isfinite(scenario.demand_factor) and math.isfinite(scenario.weight)):
                raise MeshError(f"objective.scenarios[{number}]", scenario, "use finite numbers")
        if not 1 <= self.guard.min_limit <= self.guard.max_limit:
            raise MeshError(
                "guard.min_limit",
                f"{self.guard.min_limit} (max_limit {self.guard.max_limit})",
                "use 1 <= min_limit <= max_limit",
            )


@dataclass(frozen=True)
class Solution:
    """The plan to propose and how it was found.

    objective, incumbent_objective: seconds per request under the shared objective; the first is
    never above the second unless the incumbent violates the bounds. predicted_latency: seconds,
    rate-weighted mean under `plan` at the observed demand. candidates: every solver's answer,
    in the order they were found.
    """

    plan: Plan
    objective: float
    incumbent_objective: float
    predicted_latency: float
    candidates: tuple[Candidate, ...] = ()
