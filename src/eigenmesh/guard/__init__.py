"""Policy: what may be pushed. Pure functions of plans, observations and the operator's limits."""

from eigenmesh.guard.admit import Guarded, admit
from eigenmesh.guard.evidence import lacking

__all__ = ["Guarded", "admit", "lacking"]
