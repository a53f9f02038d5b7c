"""A decision as the journal keeps it: JSON, there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from eigenmesh.mesh import (
    Action,
    Candidate,
    Cause,
    Check,
    ClusterObservation,
    CurveEstimate,
    Cut,
    Decision,
    Observation,
    Plan,
    ProxyLoad,
    Verdict,
)

_FIGURES = ("load", "throughput", "mean", "in_flight", "upstream_errors", "breaker_errors")
_LATER = ("retries", "connections", "pending")
"""What journals of before may lack."""

_PREDICTIONS = ("predicted", "incumbent_predicted", "predicted_latency")


def to_body(decision: Decision) -> dict[str, Any]:
    """All but number, time, action and why, which have columns of their own."""
    seen = decision.observation
    return {
        "plan": decision.plan.to_dict(),
        "proposed": decision.proposed.to_dict() if decision.proposed else None,
        "curves": {name: curve.to_dict() for name, curve in decision.curves.items()},
        "observation": None if seen is None else _seen(seen),
        "candidates": [
            {
                "part": c.part,
                "solver": c.solver,
                "objective": c.objective,
                "seconds": c.seconds,
                "won": c.won,
                "detail": dict(c.detail),
            }
            for c in decision.candidates
        ],
        "cuts": [
            {"rule": c.rule, "subject": c.subject, "proposed": c.proposed, "allowed": c.allowed}
            for c in decision.cuts
        ],
        **{name: getattr(decision, name) for name in _PREDICTIONS},
        "seconds": decision.seconds,
        "couplings": dict(decision.couplings),
        "check": decision.check and asdict(decision.check),
    }


def from_body(number: int, time: float, action: str, why: str, body: Mapping[str, Any]) -> Decision:
    """Raises ValueError, KeyError or TypeError when it is not what `to_body` made. Observation and
    curves may be left out."""
    proposed, seen, check = body["proposed"], body.get("observation"), body.get("check")
    return Decision(
        number=number,
        time=time,
        action=Action(action),
        why=why,
        plan=Plan.from_dict(body["plan"]),
        proposed=Plan.from_dict(proposed) if proposed else None,
        observation=_observation(seen) if seen else None,
        curves={name: CurveEstimate.from_dict(c) for name, c in body.get("curves", {}).items()},
        candidates=tuple(Candidate(**c) for c in body["candidates"]),
        cuts=tuple(Cut(**c) for c in body["cuts"]),
        **{name: body[name] for name in _PREDICTIONS},
        seconds=body["seconds"],
        couplings=body.get("couplings", {}),
        check=Check(**{**check, "verdict": Verdict(check["verdict"])}) if check else None,
    )


def _seen(seen: Observation) -> dict[str, Any]:
    return {
        "time": seen.time,
        "window": seen.window,
        "demands": dict(seen.demands),
        "missing": dict(seen.missing),
        "queries": list(seen.queries),
        "left_out": dict(seen.left_out),
        "source": seen.source,
        "nodes": dict(seen.nodes),
        "proxies": {
            proxy: {name: [one.load, one.in_flight] for name, one in loads.items()}
            for proxy, loads in seen.proxies.items()
        },
        "clusters": {name: _cluster(c) for name, c in seen.clusters.items()},
    }


def _cluster(seen: ClusterObservation) -> dict[str, Any]:
    return {
        **{name: getattr(seen, name) for name in (*_FIGURES, *_LATER)},
        "quantiles": {str(q): value for q, value in seen.quantiles.items()},
        # JSON knows no infinity.
        "resolutions": {
            str(q): width if math.isfinite(width) else None for q, width in seen.resolutions.items()
        },
        "errors": {cause.value: rate for cause, rate in seen.errors.items()},
    }


def _observation(data: Mapping[str, Any]) -> Observation:
    return Observation(
        time=data["time"],
        window=data["window"],
        clusters={name: _cluster_seen(c) for name, c in data["clusters"].items()},
        demands=data["demands"],
        missing=data["missing"],
        queries=tuple(data["queries"]),
        proxies={
            proxy: {name: ProxyLoad(*one) for name, one in loads.items()}
            for proxy, loads in data.get("proxies", {}).items()
        },
        left_out=data.get("left_out", {}),
        source=data.get("source", ""),
        nodes=data.get("nodes", {}),
    )


def _cluster_seen(data: Mapping[str, Any]) -> ClusterObservation:
    return ClusterObservation(
        **{name: data[name] for name in _FIGURES},
        **{name: data.get(name, 0.0) for name in _LATER},
        quantiles={float(q): value for q, value in data["quantiles"].items()},
        resolutions={
            float(q): math.inf if width is None else width
            for q, width in data.get("resolutions", {}).items()
        },
        errors={Cause(cause): rate for cause, rate in data.get("errors", {}).items()},
    )
