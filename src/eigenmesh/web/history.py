"""What the last decisions saw and what was in force then: for charts, in little memory."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from eigenmesh.mesh import Decision, Observation, Plan, Route, Topology

LENGTH = 240
"""Decisions that are kept."""

_NOTHING = float("nan")


@dataclass(frozen=True, slots=True)
class _Sample:
    """latency: seconds by cluster. weights: fractions by edge. Not a number: no data."""

    time: float
    action: str
    latency: array[float]
    weights: array[float]


class History:
    """Of the mesh that was seen last; another one begins anew."""

    def __init__(self) -> None:
        self._topology: Topology | None = None
        self._samples: deque[_Sample] = deque(maxlen=LENGTH)

    def add(
        self, decision: Decision, plan: Plan, topology: Topology, quantile: float | None
    ) -> None:
        """plan: in force from this decision on. quantile: of the latency; None: the mean."""
        if self._topology is None or self._topology.routes != topology.routes:
            self._samples.clear()
        self._topology = topology
        seen = decision.observation
        edges = [(r.name, c) for r in topology.routes for c in r.clusters]
        weights = (plan.weights.get(r, {}).get(c, _NOTHING) for r, c in edges)
        latencies = (latency_of(seen, c, quantile) for c in topology.steered_clusters)
        self._samples.append(
            _Sample(
                decision.time,
                decision.action.value,
                array("f", (_NOTHING if x is None else x for x in latencies)),
                array("f", weights),
            )
        )

    def of(self, route: Route) -> dict[str, Any]:
        """Of one route, the oldest first; nothing yet if it is not known."""
        topology, first, samples = self._topology, 0, list(self._samples)
        if topology is None or topology.route_by_name.get(route.name) != route:
            samples = []
        places: Mapping[str, int] = {}
        if topology is not None and samples:
            places = {name: at for at, name in enumerate(topology.steered_clusters)}
            before = takewhile(lambda one: one != route, topology.routes)
            first = sum(len(one.clusters) for one in before)
        return {
            "route": route.name,
            "times": [s.time for s in samples],
            "actions": [s.action for s in samples],
            "clusters": {
                name: {
                    "latency": [figure(s.latency[places[name]]) for s in samples],
                    "weight": [figure(s.weights[first + at]) for s in samples],
                }
                for at, name in enumerate(route.clusters)
            },
        }


def latency_of(seen: Observation | None, cluster: str, quantile: float | None) -> float | None:
    """Seconds; the mean where the quantile was not measured."""
    one = seen.clusters.get(cluster) if seen else None
    if one is None:
        return None
    return one.mean if quantile is None else one.quantiles.get(quantile, one.mean)


def figure(value: float | None) -> float | None:
    """Ready for JSON: six digits, and None for what is no number."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return None
    return float(f"{value:.6g}")
