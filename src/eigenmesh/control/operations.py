"""What people and their programs ask of a running mesh: the one place behind the gRPC API, the
command line and the page.

Every write is checked, journaled with an audit entry in one transaction, and only then takes
effect. `by` names who asks. Raises, unless said otherwise: MeshError (field, value, remedy) for a
request that makes no sense, StateError when the mesh is in no state for it, JournalWriteError when
it cannot be recorded; nothing was changed then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigenmesh.control.audit import AuditEntry
from eigenmesh.guard.controls import Controls, Mode
from eigenmesh.mesh import Candidate, Decision, Plan

if TYPE_CHECKING:
    from eigenmesh.control.journal import Journal
    from eigenmesh.control.loop import ControlLoop


class StateError(Exception):
    """The mesh is in no state for what was asked; the message says why and what to do."""


class NotFoundError(Exception):
    """There is no such thing; the message says what there is."""


@dataclass(frozen=True)
class ClusterForecast:
    """One cluster under a plan. load, capacity: requests/s. latency: mean seconds of what is
    admitted. blocked: fraction that its limit would turn away."""

    load: float
    capacity: float
    latency: float
    blocked: float


@dataclass(frozen=True)
class WhatIf:
    """What would be, nothing pushed. demands: requests/s by route. plan: the solver's, within the
    guard's bounds but not its steps. predicted, latency: objective and mean in seconds under it;
    incumbent_*: under the plan in force, as far as that still fits."""

    demands: Mapping[str, float]
    plan: Plan
    predicted: float
    latency: float | None
    incumbent_predicted: float
    incumbent_latency: float | None
    clusters: Mapping[str, ClusterForecast]
    candidates: Sequence[Candidate]


class Operations:
    """Reads are cheap; `what_if` and `propose` ask the solver."""

    def __init__(self, loop: ControlLoop, journal: Journal) -> None:
        self._loop = loop
        self._journal = journal

    @property
    def controls(self) -> Controls:
        """What people asked, as it holds now."""
        raise NotImplementedError

    @property
    def pending(self) -> Decision | None:
        """The decision that waits for a yes (mode `approve`)."""
        raise NotImplementedError

    async def set_mode(self, mode: Mode, *, route: str = "", cluster: str = "", by: str) -> None:
        """Of the whole mesh, or of one route's weights or one cluster's limits (stricter only)."""
        raise NotImplementedError

    async def pause(self, why: str, *, by: str) -> None:
        """Nothing is pushed until `resume`; a retry storm is still damped."""
        raise NotImplementedError

    async def resume(self, *, by: str) -> None:
        """Ends a pause, a freeze of `freeze`, and a hold after rollbacks."""
        raise NotImplementedError

    async def freeze(self, until: float, *, by: str) -> None:
        """Nothing is pushed until then (unix seconds)."""
        raise NotImplementedError

    async def pin(self, route: str, weights: Mapping[str, float], *, by: str) -> None:
        """These clusters of the route get exactly these weights, reached by bounded steps."""
        raise NotImplementedError

    async def unpin(self, route: str, *, by: str) -> None:
        raise NotImplementedError

    async def promote(self, route: str, cluster: str, *, by: str) -> None:
        """The canary's ceiling (`guard.canaries`) no longer holds."""
        raise NotImplementedError

    async def set_policy(self, overrides: Mapping[str, float | None], *, by: str) -> None:
        """Settings of the guard by their names, such as max_step; None: as the settings say."""
        raise NotImplementedError

    async def approve(self, number: int = 0, *, by: str) -> Decision:
        """Pushes the pending plan; number: that of its decision, 0: whichever is pending."""
        raise NotImplementedError

    async def reject(self, number: int = 0, why: str = "", *, by: str) -> Decision:
        """The pending plan is dropped; the next tick may propose another."""
        raise NotImplementedError

    async def roll_back(self, number: int, *, by: str) -> None:
        """Goes to the plan of that decision by bounded steps, and pauses there. NotFoundError."""
        raise NotImplementedError

    async def restore(self, *, by: str) -> None:
        """Goes to the operator's own weights and limits by bounded steps, and pauses there."""
        raise NotImplementedError

    async def propose(self) -> Decision:
        """What would be decided now, by the latest observation. Nothing is pushed or recorded.
        SolverError."""
        raise NotImplementedError

    async def what_if(
        self,
        demands: Mapping[str, float] | None = None,
        *,
        scale: float = 1.0,
        without: Sequence[str] = (),
        capacities: Mapping[str, float] | None = None,
    ) -> WhatIf:
        """At these demands (requests/s by route; others as now, times `scale`), without these
        clusters, with capacities multiplied by these factors. SolverError."""
        raise NotImplementedError

    async def audit(self, limit: int = 100, before: int = 0) -> list[AuditEntry]:
        """The newest first; before: only entries with a smaller number, if it is not 0."""
        raise NotImplementedError
