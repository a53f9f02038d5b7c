"""A plan: the weights and breaker limits for the whole mesh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eigenmesh.mesh.errors import MeshError
from eigenmesh.mesh.topology import Topology

WEIGHT_TOTAL = 10_000
"""Envoy's weights are integers; a plan is pushed in basis points."""


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """Circuit-breaker thresholds of one cluster (requests, connections) over all proxies together.

    Envoy's own are per proxy (config.cluster.v3.CircuitBreakers.Thresholds); `mesh.division` says
    which part each proxy is served.
    """

    max_requests: int
    max_connections: int
    max_pending_requests: int
    max_retries: int

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value < 1:
                raise MeshError(f"limits.{name}", value, "use 1 or more; 0 rejects every request")

    @classmethod
    def around(cls, max_requests: int) -> BreakerLimits:
        """Limits in which `max_requests` is the one that binds.

        Connections and pending requests get room above it: an HTTP/1.1 pool holds idle and
        connecting connections beside the busy ones, on every worker thread. Retries get a
        fifth, so that they cannot take over the cluster.
        """
        return cls(
            max_requests=max_requests,
            max_connections=max(16, 4 * max_requests),
            max_pending_requests=max(16, 2 * max_requests),
            max_retries=max(3, math.ceil(0.2 * max_requests)),
        )


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
            "limits": {
                cluster: {name: getattr(limits, name) for name in BreakerLimits.__slots__}
                for cluster, limits in self.limits.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        return cls(
            {route: dict(split) for route, split in data["weights"].items()},
            {cluster: BreakerLimits(**limits) for cluster, limits in data["limits"].items()},
        )

    @classmethod
    def equal(cls, topology: Topology) -> Plan:
        """Equal weights on every route, the operator's own limits."""
        return cls(
            {r.name: {c: 1.0 / len(r.clusters) for c in r.clusters} for r in topology.routes}, {}
        )


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
