"""The domain: what the wings exchange.

Frozen dataclasses and pure functions. No I/O, no gRPC, no PennyLane, and no clock: time is
passed in as seconds. Latencies are seconds, loads are requests/s, weights are fractions.
"""

from eigenmesh.mesh.breaker import (
    Burstiness,
    admitted_latency,
    blocked_fraction,
    goodput,
    least_limit,
)
from eigenmesh.mesh.coupling import Calls, Pools
from eigenmesh.mesh.curve import CurveEstimate, LatencyCurve
from eigenmesh.mesh.decision import Action, Candidate, Check, Cut, Decision, Verdict
from eigenmesh.mesh.errors import MeshError
from eigenmesh.mesh.observation import Cause, ClusterObservation, Observation, ProxyLoad
from eigenmesh.mesh.plan import ENVOY_DEFAULT_LIMITS, BreakerLimits, Plan, RetryBudget
from eigenmesh.mesh.policy import (
    Bounds,
    FastPolicy,
    FreezeWindow,
    GuardPolicy,
    ObjectivePolicy,
    ProbePolicy,
    Scenario,
    Steps,
    StormPolicy,
    VerifyPolicy,
)
from eigenmesh.mesh.topology import Call, Cluster, Host, Retries, Route, Topology

__all__ = [
    "ENVOY_DEFAULT_LIMITS",
    "Action",
    "Bounds",
    "BreakerLimits",
    "Burstiness",
    "Call",
    "Calls",
    "Candidate",
    "Cause",
    "Check",
    "Cluster",
    "ClusterObservation",
    "CurveEstimate",
    "Cut",
    "Decision",
    "FastPolicy",
    "FreezeWindow",
    "GuardPolicy",
    "Host",
    "LatencyCurve",
    "MeshError",
    "ObjectivePolicy",
    "Observation",
    "Plan",
    "Pools",
    "ProbePolicy",
    "ProxyLoad",
    "Retries",
    "RetryBudget",
    "Route",
    "Scenario",
    "Steps",
    "StormPolicy",
    "Topology",
    "Verdict",
    "VerifyPolicy",
    "admitted_latency",
    "blocked_fraction",
    "goodput",
    "least_limit",
]
