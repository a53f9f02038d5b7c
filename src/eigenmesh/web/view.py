"""What the page shows, ready for JSON. Seconds, requests/s, fractions; None: no data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from eigenmesh.api.subject import Subject
from eigenmesh.mesh import Candidate, Cut, Decision, Observation, Plan
from eigenmesh.web.circuits import described
from eigenmesh.web.history import figure, latency_of

MOST_LISTED = 20
"""Cuts and changes of one decision that are told; how many there are is told too."""


def view(subject: Subject, before: Plan, nodes: int) -> dict[str, Any]:
    """The whole mesh as it is now. before: the plan in force before the latest decision. nodes: how
    many Envoys are connected."""
    loop, now = subject.loop, subject.loop.clock()
    controls, pending, latest = subject.operations.controls, subject.operations.pending, loop.latest
    objective, plan = loop.settings.objective, loop.plan
    seen = latest.observation if latest else None
    return {
        "mesh": subject.id,
        "time": now,
        "interval": loop.settings.interval,
        "mode": controls.mode.value,
        "stopped": controls.stops(now) or "",
        "nodes": nodes,
        "slo": objective.slo,
        "quantile": objective.quantile,
        "source": seen.source if seen else "",
        "routes": [
            {
                "name": route.name,
                "demand": figure(seen.demands.get(route.name)) if seen else None,
                "mode": controls.mode_of_route(route.name).value,
                "pins": dict(controls.pins.get(route.name, {})),
                "weights": {c: figure(w) for c, w in plan.weights.get(route.name, {}).items()},
                "missing": seen.missing.get(route.name, "") if seen else "",
            }
            for route in subject.topology.routes
        ],
        "clusters": [
            _cluster(name, subject, seen, objective.quantile)
            for name in subject.topology.steered_clusters
        ],
        "decision": _decision(latest, before) if latest else None,
        "pending": _decision(pending, plan) if pending else None,
        "circuits": described(latest, loop.settings, loop.policy) if latest else {},
    }


def _cluster(
    name: str, subject: Subject, seen: Observation | None, quantile: float | None
) -> dict[str, Any]:
    loop, cluster = subject.loop, subject.topology.by_name[name]
    one = seen.clusters.get(name) if seen else None
    limits, curve = loop.plan.limits.get(name), loop.curves.get(name)
    return {
        "name": name,
        "host": cluster.host or "",
        "calls": [call.route for call in cluster.calls],
        "latency": figure(latency_of(seen, name, quantile)),
        "p99": figure(one.quantiles.get(0.99)) if one else None,
        "load": figure(one.load) if one else None,
        "in_flight": figure(one.in_flight) if one else None,
        "rejected": figure(one.breaker_errors) if one else None,
        "errors": figure(one.upstream_errors) if one else None,
        "limit": limits.max_requests if limits else None,
        "capacity": figure(curve.curve.capacity) if curve else None,
        "missing": seen.missing.get(name, "") if seen else "",
    }


def _decision(decision: Decision, before: Plan) -> dict[str, Any]:
    weights = _weight_changes(before, decision.plan)
    limits = [
        {"cluster": c, "from": _limit(before, c), "to": limits.max_requests}
        for c, limits in decision.plan.limits.items()
        if _limit(before, c) != limits.max_requests
    ]
    return {
        "number": decision.number,
        "time": decision.time,
        "action": decision.action.value,
        "why": decision.why,
        "check": decision.check.why if decision.check else "",
        "verdict": decision.check.verdict.value if decision.check else "",
        "predicted": figure(decision.predicted),
        "incumbent_predicted": figure(decision.incumbent_predicted),
        "predicted_latency": figure(decision.predicted_latency),
        "seconds": figure(decision.seconds),
        "candidates": [_candidate(c) for c in decision.candidates],
        "cuts": [_cut(c) for c in islice(decision.cuts, MOST_LISTED)],
        "cut_count": len(decision.cuts),
        "weight_changes": weights[:MOST_LISTED],
        "limit_changes": limits[:MOST_LISTED],
        "change_count": len(weights) + len(limits),
    }


def _weight_changes(old: Plan, new: Plan) -> Sequence[dict[str, Any]]:
    """Largest first, from half a per mille on."""
    found = [
        {"route": route, "cluster": cluster, "from": figure(before), "to": figure(weight)}
        for route, split in new.weights.items()
        for cluster, weight in split.items()
        if abs(weight - (before := old.weights.get(route, {}).get(cluster, 0.0))) >= 0.0005
    ]
    return sorted(found, key=lambda one: -abs(one["to"] - one["from"]))


def _limit(plan: Plan, cluster: str) -> int | None:
    limits = plan.limits.get(cluster)
    return limits.max_requests if limits else None


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "part": candidate.part,
        "solver": candidate.solver,
        "objective": figure(candidate.objective),
        "seconds": figure(candidate.seconds),
        "won": candidate.won,
        "error": str(candidate.detail.get("error", "")),
    }


def _cut(cut: Cut) -> dict[str, Any]:
    return {
        "rule": cut.rule,
        "subject": cut.subject,
        "proposed": figure(cut.proposed),
        "allowed": figure(cut.allowed),
    }
