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
    """The mode is observe: this is what would have been pushed."""
    AWAIT = "await"
    """The mode is approve: the plan waits for a yes."""
    ROLLBACK = "rollback"
    """A bounded step back, toward the last good plan or one that was asked for."""


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


class Verdict(StrEnum):
    WAITING = "waiting"
    """For more windows."""
    ACCEPTED = "accepted"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"
    VOID = "void"
    """The mesh itself changed: nothing can be said of the plan."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found of the plan in force after one window.

    change: of the latency against the good plan's, a fraction (0.1: a tenth worse), with its
    standard error; None before there are two windows. windows: since the departure. failed:
    windows in a row in which the plan was worse, whatever chance may have to do with it.
    """

    verdict: Verdict
    windows: int
    change: float | None = None
    error: float | None = None
    failed: int = 0

    @property
    def why(self) -> str:
        """For people."""
        if self.change is None:
            return f"{self.verdict}: {self.windows} windows since the last good plan"
        return (
            f"{self.verdict}: {self.change:+.1%} (standard error {self.error:.1%}) against the "
            f"last good plan in {self.windows} windows"
        )


@dataclass(frozen=True)
class Decision:
    """`number` counts decisions of this mesh from 1, over restarts. `why` is one sentence.

    proposed: the optimiser's plan; plan: what the guard left of it (the incumbent on HOLD).
    predicted, incumbent_predicted: objective in seconds per request, None without curves.
    predicted_latency: rate-weighted mean in seconds under `plan` at the demand expected next.
    couplings: what was known of shared hosts and calls (`Topology.strengths`). check: of the plan
    that was in force before, by what its windows show.
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
    check: Check | None = None
