"""Plans that wait for a yes.

A person needs time: the plan that waits stays the same, until there is a markedly better one, or
until it is no better than what is in force.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eigenmesh.mesh import Decision, Plan

REJECTED = 900.0
"""Seconds for which nothing is proposed after a no."""


@dataclass
class Approvals:
    """pending: the decision whose plan waits. rejected: until when nothing is proposed, and why."""

    pending: Decision | None = None
    rejected: tuple[float, str] = (0.0, "")

    def quiet(self, now: float) -> str | None:
        """Why nothing is proposed now (unix seconds)."""
        until, why = self.rejected
        if (left := until - now) > 0:
            return f"{why}; nothing is proposed for another {left:.0f} s"
        return None

    def shift(self, seconds: float) -> None:
        """The clock was set forward by so much."""
        until, why = self.rejected
        self.rejected = (until + seconds, why)

    def is_worth_it(
        self, score: Callable[[Plan], float], incumbent: Plan, least_gain: float
    ) -> bool:
        """Whether the plan that waits still gains as much over what is in force now."""
        if self.pending is None:
            return True
        return 1.0 - score(self.pending.plan) / max(score(incumbent), 1e-12) >= least_gain

    def is_better(self, plan: Plan, score: Callable[[Plan], float], least_gain: float) -> bool:
        """Whether this plan should wait in place of the one that does."""
        if self.pending is None:
            return True
        return score(plan) < score(self.pending.plan) * (1.0 - least_gain)

    def reject(self, why: str, now: float) -> None:
        """Nothing is proposed for a while."""
        self.rejected = (now + REJECTED, why)
