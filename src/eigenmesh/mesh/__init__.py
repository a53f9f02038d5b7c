"""The domain: what the wings exchange.

Frozen dataclasses and pure functions. No I/O, no gRPC, no PennyLane, and no clock: time is
passed in as seconds. Latencies are seconds, loads are requests/s, weights are fractions.
"""

from eigenmesh.mesh.breaker import admitted_latency, blocked_fraction
from eigenmesh.mesh.coupling import Calls, Pools
from eigenmesh.mesh.curve import CurveEstimate, LatencyCurve
from eigenmesh.mesh.decision import Action, Candidate, Cut, Decision
from eigenmesh.mesh.errors import MeshError
from eigenmesh.mesh.observation import Cause, ClusterObservation, Observation, ProxyLoad
from eigenmesh.mesh.plan import BreakerLimits, Plan
from eigenmesh.mesh.policy import (
    Bounds,
    FreezeWindow,
    GuardPolicy,
    ObjectivePolicy,
    ProbePolicy,
    Scenario,
    VerifyPolicy,
)
from eigenmesh.mesh.topology import Call, Cluster, Host, Route, Topology

__all__ = [
    "Action",
    "Bounds",
    "BreakerLimits",
    "Call",
    "Calls",
    "Candidate",
    "Cause",
    "Cluster",
    "ClusterObservation",
    "CurveEstimate",
    "Cut",
    "Decision",
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
    "Route",
    "Scenario",
    "Topology",
    "VerifyPolicy",
    "admitted_latency",
    "blocked_fraction",
]
