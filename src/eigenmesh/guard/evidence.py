"""Is there enough evidence to move anything? Missing data holds the whole plan."""

from __future__ import annotations

from collections.abc import Mapping

from eigenmesh.mesh import CurveEstimate, GuardPolicy, Observation, Topology


def lacking(
    topology: Topology,
    observation: Observation,
    curves: Mapping[str, CurveEstimate],
    policy: GuardPolicy,
    now: float,
) -> str | None:
    """Why nothing may be moved now, in one sentence; None when the evidence suffices."""
    age = now - observation.time
    if age > policy.max_age:
        return f"the newest data is {age:.0f} s old, older than max_age {policy.max_age:g} s"
    if observation.missing:
        name, reason = next(iter(observation.missing.items()))
        more = len(observation.missing) - 1
        return f"no data for {name}: {reason}" + (f" (and {more} more)" if more else "")
    for cluster in topology.steered_clusters:
        if cluster not in observation.clusters:
            return f"no data for cluster {cluster}"
    for route in topology.routes:
        if route.name not in observation.demands:
            return f"no demand data for route {route.name}"
    if observation.total_demand <= 0:
        return "no traffic on the steered routes"
    unlearned = [c for c in topology.steered_clusters if c not in curves]
    if unlearned:
        return f"still learning the latency curve of {', '.join(unlearned)}"
    return None
