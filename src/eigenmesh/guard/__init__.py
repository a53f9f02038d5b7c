"""Policy: what may be pushed, by plans, observations, the operator's limits, and given times."""

from eigenmesh.guard.admit import Guarded, LimitRange, admit
from eigenmesh.guard.evidence import lacking
from eigenmesh.guard.fast import FastGuard
from eigenmesh.guard.probe import Probe, Prober
from eigenmesh.guard.storm import Damping, Storm

__all__ = [
    "Damping",
    "FastGuard",
    "Guarded",
    "LimitRange",
    "Probe",
    "Prober",
    "Storm",
    "admit",
    "lacking",
]
