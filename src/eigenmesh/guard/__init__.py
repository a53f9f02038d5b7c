"""Policy: what may be pushed, by plans, observations, the operator's limits, and given times."""

from eigenmesh.guard.admit import Guarded, admit
from eigenmesh.guard.evidence import lacking
from eigenmesh.guard.probe import Probe, Prober

__all__ = ["Guarded", "Probe", "Prober", "admit", "lacking"]
