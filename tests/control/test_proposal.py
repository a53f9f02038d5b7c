"""What is let in between two decisions."""

from __future__ import annotations

import pytest

from eigenmesh.control.proposal import LoopSettings, let_in, meanwhile
from eigenmesh.mesh import (
    BreakerLimits,
    Cluster,
    GuardPolicy,
    ObjectivePolicy,
    Plan,
    Route,
    Topology,
)

TOPOLOGY = Topology(
    (Cluster("a"), Cluster("b"), Cluster("c", adaptive=True)), (Route("r", ("a", "b", "c")),)
)
OWN = {"b": BreakerLimits.around(50)}
SETTINGS = LoopSettings(
    TOPOLOGY, ObjectivePolicy(), GuardPolicy(), 5.0, 5.0, "classical", "m", own_limits=OWN
)


def test_only_limits_that_are_decided_here_are_known() -> None:
    weights = {"r": {"a": 0.5, "b": 0.3, "c": 0.2}}
    limits = {"a": BreakerLimits.around(20), "b": OWN["b"], "c": BreakerLimits.around(20)}
    assert let_in(Plan(weights, limits), SETTINGS) == {"a": 20.0}
    moved = {**limits, "b": BreakerLimits.around(40)}
    assert let_in(Plan(weights, moved), SETTINGS) == {"a": 20.0, "b": 40.0}


def test_a_limit_that_moved_is_not_known() -> None:
    before = {"same": 20.0, "near": 20.0, "far": 20.0, "gone": 20.0}
    now = {"same": 20.0, "near": 22.0, "far": 40.0, "new": 20.0}
    found = meanwhile(before, now)
    assert found == {"same": 20.0, "near": pytest.approx(20.976, abs=0.01)}
