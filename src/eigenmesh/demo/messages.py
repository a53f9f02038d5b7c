"""Reading what Eigenmesh's API answers (`eigenmesh.v1`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict

from eigenmesh.v1 import mesh_pb2 as pb

TIE = "the same to 0.1%"
_SAME = 1e-3


def weights(plan: pb.Plan) -> dict[str, dict[str, float]]:
    """Route -> cluster -> fraction."""
    return {r.route: dict(r.weights) for r in plan.routes}


def action(decision: pb.Decision) -> str:
    """push, hold or recommend."""
    return pb.Decision.Action.Name(decision.action).removeprefix("ACTION_").lower()


def contests(decision: pb.Decision) -> list[tuple[str, list[pb.Candidate]]]:
    """The rounds in which solvers met: part of the plan ("weights", "limits") and who met."""
    met: dict[tuple[str, str], list[pb.Candidate]] = {}
    for candidate in decision.candidates:
        met.setdefault((candidate.part, candidate.detail.get("round", "")), []).append(candidate)
    return [(part, candidates) for (part, _), candidates in met.items()]


def better(candidates: Sequence[pb.Candidate]) -> str:
    """Whose plan scored better by more than 0.1% of the objective; TIE if none's did."""
    best, *others = sorted(candidates, key=lambda c: c.objective)
    if any(c.objective <= best.objective * (1.0 + _SAME) for c in others):
        return TIE
    return best.solver


def to_dict(decision: pb.Decision) -> dict[str, Any]:
    """The decision as JSON has it, for the run folder."""
    fields: dict[str, Any] = MessageToDict(decision, preserving_proto_field_name=True)
    return fields
