"""A plan: the weights and breaker limits for the whole mesh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eigenmesh.mesh.errors import MeshError
from eigenmesh.mesh.topology import Topology

WEIGHT_TOTAL = 10_000
"""Envoy's weights are integers; a plan is pushed in basis points."""

COUNTS = ("max_requests", "max_connections", "max_pending_requests", "max_retries")
"""The thresholds that count something, of which each proxy may have its part."""


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many retries of a cluster Envoy lets be outstanding at once, in place of `max_retries`.

    budget_percent: of the requests that are active or pending, 0 to 100. min_retry_concurrency:
    as many are allowed whatever that percentage comes to. With both at 0 nothing is retried.
    Source: Envoy, config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget.
    """

    budget_percent: float = 20.0
    min_retry_concurrency: int = 3

    def __post_init__(self) -> None:
        if not 0.0 <= self.budget_percent <= 100.0:
            field = "limits.retry_budget.budget_percent"
            raise MeshError(field, self.budget_percent, "use a percentage from 0 to 100")
        if self.min_retry_concurrency < 0:
            field = "limits.retry_budget.min_retry_concurrency"
            raise MeshError(field, self.min_retry_concurrency, "use 0 or more")


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """Circuit-breaker thresholds of one cluster (requests, connections) over all proxies together.

    Envoy's own are per proxy (config.cluster.v3.CircuitBreakers.Thresholds); `mesh.division` says
    which part each proxy is served. retry_budget: None where none is set; otherwise Envoy ignores
    `max_retries`.
    """

    max_requests: int
    max_connections: int
    max_pending_requests: int
    max_retries: int
    retry_budget: RetryBudget | None = None

    def __post_init__(self) -> None:
        for name in COUNTS:
            value = getattr(self, name)
            if value < 1:
                raise MeshError(f"limits.{name}", value, "use 1 or more; 0 rejects every request")

    @classmethod
    def around(cls, max_requests: int) -> BreakerLimits:
        """Limits in which `max_requests` is the one that binds.

        Connections and pending requests get room above it: an HTTP/1.1 pool holds idle and
        connecting connections beside the busy ones, on every worker thread. Retries get a
        fifth of what is in flight, so that they cannot take over the cluster.
        """
        return cls(
            max_requests=max_requests,
            max_connections=max(16, 4 * max_requests),
            max_pending_requests=max(16, 2 * max_requests),
            max_retries=max(3, math.ceil(0.2 * max_requests)),
            retry_budget=RetryBudget(),
        )

    @property
    def thresholds(self) -> dict[str, float]:
        """By the names that Envoy has for them, in its API as in its runtime."""
        found: dict[str, float] = {name: getattr(self, name) for name in COUNTS}
        if self.retry_budget is not None:
            found |= {f"retry_budget.{name}": v for name, v in asdict(self.retry_budget).items()}
        return found


ENVOY_DEFAULT_LIMITS = BreakerLimits(1024, 1024, 1024, 3)
"""What Envoy uses where the operator configured nothing (CircuitBreakers.Thresholds)."""


@dataclass(frozen=True)
class Plan:
    """weights: route -> cluster -> fraction (each route sums to 1). limits: cluster -> limits.

    A cluster without an entry in `limits` keeps what the operator configured.
    """

    weights: Mapping[str, Mapping[str, float]]
    limits: Mapping[str, BreakerLimits]

    def __post_init__(self) -> None:
        for route, split in self.weights.items():
            if any(not (0.0 <= w <= 1.0 + 1e-9) for w in split.values()):
                raise MeshError(f"weights.{route}", dict(split), "use fractions from 0 to 1")
            if abs(sum(split.values()) - 1.0) > 1e-6:
                raise MeshError(f"weights.{route}", dict(split), "make the weights sum to 1")

    def loads(self, demands: Mapping[str, float]) -> dict[str, float]:
        """Cluster -> requests/s that these route demands send to it under this plan."""
        loads: dict[str, float] = {}
        for route, split in self.weights.items():
            for cluster, weight in split.items():
                loads[cluster] = loads.get(cluster, 0.0) + demands.get(route, 0.0) * weight
        return loads

    def distance(self, other: Plan) -> float:
        """The largest change of any weight between the two plans (fraction)."""
        return max(
            (
                abs(weight - other.weights.get(route, {}).get(cluster, 0.0))
                for route, split in self.weights.items()
                for cluster, weight in split.items()
            ),
            default=0.0,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "weights": {route: dict(split) for route, split in self.weights.items()},
            "limits": {cluster: asdict(limits) for cluster, limits in self.limits.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        return cls(
            {route: dict(split) for route, split in data["weights"].items()},
            {cluster: _limits(limits) for cluster, limits in data["limits"].items()},
        )

    @classmethod
    def equal(cls, topology: Topology) -> Plan:
        """Equal weights on every route, the operator's own limits."""
        return cls(
            {r.name: {c: 1.0 / len(r.clusters) for c in r.clusters} for r in topology.routes}, {}
        )


def _limits(data: Mapping[str, Any]) -> BreakerLimits:
    """Plans of before have no retry budget."""
    budget = data.get("retry_budget")
    return BreakerLimits(**{**data, "retry_budget": RetryBudget(**budget) if budget else None})


def to_integers(split: Mapping[str, float], total: int = WEIGHT_TOTAL) -> dict[str, int]:
    """Fractions to integers that sum to `total` exactly (largest remainder, ties by name)."""
    floors: dict[str, int] = {}
    remainders = []
    for name, weight in split.items():
        share = weight * total
        floors[name] = math.floor(share)
        remainders.append((floors[name] - share, name))
    remainders.sort()
    spare = total - sum(floors.values())
    for _, name in remainders[:spare]:
        floors[name] += 1
    return floors
