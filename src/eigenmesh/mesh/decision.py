"""A decision: a plan, why, what was predicted, what was checked, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from eigenmesh.mesh.curve import CurveEstimate
from eigenmesh.mesh.observation import Observation
from eigenmesh.mesh.plan import Plan


class Action(StrEnum):
    """What was done with the plan."""

    PUSH = "push"
    HOLD = "hold"
    RECOMMEND = "recommend"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One solver's plan under the shared objective.

    part: what it decided ("weights" or "limits"). objective: seconds per request (lower is
    better). seconds: how long it took. detail: e.g. qubits, layers, shots, evaluations.
    """

    part: str
    solver: str
    objective: float
    seconds: float
    won: bool = False
    detail: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cut:
    """Something that the guard changed or stopped, and why."""

    rule: str
    subject: str
    proposed: float
    allowed: float


@dataclass(frozen=True)
class Decision:
    """`number` counts decisions of this mesh from 1, over restarts. `why` is one sentence.

    proposed: the optimiser's plan; plan: what the guard left of it (the incumbent on HOLD).
    predicted, incumbent_predicted: objective in seconds per request, None without curves.
    predicted_latency: rate-weighted mean in seconds under `plan` at the demand expected next.
    couplings: what was known of shared hosts and calls (`Topology.strengths`).
    """

    number: int
    time: float
    action: Action
    why: str
    plan: Plan
    proposed: Plan | None = None
    observation: Observation | None = None
    curves: Mapping[str, CurveEstimate] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    cuts: tuple[Cut, ...] = ()
    predicted: float | None = None
    incumbent_predicted: float | None = None
    predicted_latency: float | None = None
    seconds: float = 0.0
    couplings: Mapping[str, float] = field(default_factory=dict)
