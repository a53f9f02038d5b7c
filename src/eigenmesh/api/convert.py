"""Domain values to API messages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from eigenmesh.api.names import resource_name
from eigenmesh.control.audit import AuditEntry
from eigenmesh.control.journal import Summary
from eigenmesh.control.operations import WhatIf
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import BreakerLimits, Candidate, Check, CurveEstimate, Decision, Plan
from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import mesh_service_pb2 as api
from eigenmesh.xds.status import NodeStatus

MODES = {
    Mode.OBSERVE: pb.MODE_OBSERVE,
    Mode.APPROVE: pb.MODE_APPROVE,
    Mode.AUTO: pb.MODE_AUTO,
}


def plan_message(plan: Plan) -> pb.Plan:
    return pb.Plan(
        routes=[
            pb.RouteWeights(route=route, weights=dict(split))
            for route, split in plan.weights.items()
        ],
        clusters=[limits_message(cluster, limits) for cluster, limits in plan.limits.items()],
    )


def limits_message(cluster: str, limits: BreakerLimits) -> pb.ClusterLimits:
    return pb.ClusterLimits(
        cluster=cluster,
        max_requests=limits.max_requests,
        max_connections=limits.max_connections,
        max_pending_requests=limits.max_pending_requests,
        max_retries=limits.max_retries,
        retry_budget=pb.RetryBudget(**asdict(limits.retry_budget)) if limits.retry_budget else None,
    )


def controls_message(controls: Controls, now: float) -> pb.Controls:
    """now: unix seconds; a freeze that is over is not shown."""
    return pb.Controls(
        mode=MODES[controls.mode],
        routes={route: MODES[mode] for route, mode in controls.routes.items()},
        clusters={cluster: MODES[mode] for cluster, mode in controls.clusters.items()},
        paused=controls.paused,
        frozen_until=_timestamp(controls.frozen_until) if controls.frozen_until > now else None,
        held=controls.held,
        pins={route: pb.Weights(weights=pins) for route, pins in controls.pins.items()},
        promoted=[
            pb.RouteCluster(route=route, cluster=cluster)
            for route, cluster in sorted(controls.promoted)
        ],
        overrides=controls.overrides,
    )


def decision_message(decision: Decision, mesh: str) -> pb.Decision:
    """mesh: its id. All that the decision rests on."""
    message = pb.Decision(
        name=resource_name("decisions", decision.number, mesh),
        number=decision.number,
        time=_timestamp(decision.time),
        action=f"ACTION_{decision.action.name}",
        why=decision.why,
        plan=plan_message(decision.plan),
        candidates=[_candidate(c) for c in decision.candidates],
        cuts=[
            pb.Cut(rule=c.rule, subject=c.subject, proposed=c.proposed, allowed=c.allowed)
            for c in decision.cuts
        ],
        took=_duration(decision.seconds),
        predicted=decision.predicted,
        incumbent_predicted=decision.incumbent_predicted,
        predicted_latency=decision.predicted_latency,
        couplings=decision.couplings,
    )
    if decision.check is not None:
        message.check.CopyFrom(_check(decision.check))
    if decision.proposed is not None:
        message.proposed.CopyFrom(plan_message(decision.proposed))
    seen = decision.observation
    if seen is not None:
        message.missing.update(seen.missing)
        message.queries.extend(seen.queries)
        message.source = seen.source
        message.left_out.update(seen.left_out)
        message.observed_at.CopyFrom(_timestamp(seen.time))
        message.window.CopyFrom(_duration(seen.window))
        message.proxies.extend(
            pb.ProxyLoad(proxy=proxy, cluster=name, load=one.load, in_flight=one.in_flight)
            for proxy, loads in seen.proxies.items()
            for name, one in loads.items()
        )
        message.demands.extend(
            pb.RouteDemand(route=route, requests_per_second=demand)
            for route, demand in seen.demands.items()
        )
    names = {**(seen.clusters if seen else {}), **decision.curves}
    message.clusters.extend(cluster_state(name, decision) for name in names)
    return message


def summary_message(summary: Summary, mesh: str) -> pb.Decision:
    """mesh: its id. What the journal tells of a decision without unpacking it."""
    return pb.Decision(
        name=resource_name("decisions", summary.number, mesh),
        number=summary.number,
        time=_timestamp(summary.time),
        action=f"ACTION_{summary.action.name}",
        why=summary.why,
        took=_duration(summary.seconds),
        predicted=summary.predicted,
        incumbent_predicted=summary.incumbent_predicted,
        predicted_latency=summary.predicted_latency,
        check=pb.Check(verdict=f"VERDICT_{summary.verdict.name}") if summary.verdict else None,
    )


def what_if_message(found: WhatIf) -> api.WhatIfResponse:
    return api.WhatIfResponse(
        demands=found.demands,
        plan=plan_message(found.plan),
        predicted=found.predicted,
        predicted_latency=found.latency,
        incumbent_predicted=found.incumbent_predicted,
        incumbent_predicted_latency=found.incumbent_latency,
        clusters={
            name: pb.ClusterForecast(**asdict(forecast))
            for name, forecast in found.clusters.items()
        },
        candidates=[_candidate(c) for c in found.candidates],
    )


def audit_message(entry: AuditEntry, mesh: str) -> pb.AuditEntry:
    """mesh: its id."""
    message = pb.AuditEntry(
        name=resource_name("auditEntries", entry.number, mesh),
        number=entry.number,
        time=_timestamp(entry.time),
        who=entry.who,
        action=entry.action,
        outcome=entry.outcome,
    )
    message.detail.update(entry.detail)
    return message


def node_message(status: NodeStatus, granted: Mapping[str, int], mesh: str) -> pb.Node:
    """granted: its part of the clusters' limits."""
    return pb.Node(
        name=resource_name("nodes", status.node_id, mesh),
        max_requests=granted,
        id=status.node_id,
        cluster=status.node_cluster,
        group=status.group,
        connected_for=_duration(status.age),
        subscriptions=[
            pb.Subscription(
                type_url=s.type_url,
                sent_version=s.sent_version,
                acked_version=s.acked_version,
                nack=s.nack,
                names=["*"] * s.wildcard + list(s.names),
                nack_count=s.nacks,
                answered_ago=None if s.age is None else _duration(s.age),
            )
            for s in status.types
        ],
    )


def cluster_state(name: str, decision: Decision) -> pb.ClusterState:
    """What the decision saw of the cluster, and the curve that it had of it."""
    message = pb.ClusterState(cluster=name)
    seen = decision.observation.clusters.get(name) if decision.observation else None
    if seen is not None:
        message.load = seen.load
        message.throughput = seen.throughput
        message.in_flight = seen.in_flight
        message.upstream_errors = seen.upstream_errors
        message.breaker_errors = seen.breaker_errors
        message.retries = seen.retries
        message.connections = seen.connections
        message.pending = seen.pending
        message.errors.update({cause.value: rate for cause, rate in seen.errors.items()})
        message.quantiles.extend(
            pb.Quantile(q=q, seconds=value, resolution_seconds=seen.resolutions.get(q, math.inf))
            for q, value in sorted(seen.quantiles.items())
        )
        if seen.mean is not None:
            message.mean_seconds = seen.mean
        if 0.5 in seen.quantiles:
            message.p50_seconds = seen.quantiles[0.5]
        if 0.99 in seen.quantiles:
            message.p99_seconds = seen.quantiles[0.99]
    if name in decision.curves:
        message.curve.CopyFrom(_curve(decision.curves[name]))
    return message


def _curve(estimate: CurveEstimate) -> pb.Curve:
    return pb.Curve(
        t0_seconds=estimate.curve.t0,
        capacity=estimate.curve.capacity,
        variability=estimate.curve.variability,
        t0_error=estimate.t0_error,
        capacity_error=estimate.capacity_error,
        changed_at=None if estimate.changed_at is None else _timestamp(estimate.changed_at),
    )


def _check(check: Check) -> pb.Check:
    return pb.Check(
        verdict=f"VERDICT_{check.verdict.name}",
        change=check.change,
        error=check.error,
        windows=check.windows,
        failed=check.failed,
        why=check.why,
    )


def _candidate(candidate: Candidate) -> pb.Candidate:
    return pb.Candidate(
        part=candidate.part,
        solver=candidate.solver,
        objective=candidate.objective,
        took=_duration(candidate.seconds),
        won=candidate.won,
        detail={key: str(value) for key, value in candidate.detail.items()},
    )


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
