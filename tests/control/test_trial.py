"""A plan on trial is held to what was known when it was made."""

from __future__ import annotations

from collections.abc import Mapping

from eigenmesh.control.trial import Trial
from eigenmesh.mesh import (
    Cluster,
    ClusterObservation,
    CurveEstimate,
    LatencyCurve,
    ObjectivePolicy,
    Observation,
    Plan,
    Route,
    Topology,
    Verdict,
    VerifyPolicy,
)

TOPOLOGY = Topology((Cluster("a"), Cluster("b")), (Route("shop", ("a", "b")),))
GOOD = Plan({"shop": {"a": 0.67, "b": 0.33}}, {})
DEMAND = 300.0
Curves = Mapping[str, CurveEstimate]


def curves(a: float, changed_at: float | None = None) -> Curves:
    """a: its capacity, since `changed_at`."""
    return {
        "a": CurveEstimate(LatencyCurve(0.02, a), 0.05, 0.05, 20, changed_at),
        "b": CurveEstimate(LatencyCurve(0.02, 200.0), 0.05, 0.05, 20),
    }


def window(time: float, plan: Plan, truth: Curves, rejected: float = 0.0) -> Observation:
    """rejected: requests/s that b's breaker turns away."""
    seen = {}
    for number, (name, weight) in enumerate(plan.weights["shop"].items()):
        load = DEMAND * weight
        mean = float(truth[name].curve.latency(load)) * (1.0 + 0.02 * ((time / 2 + number) % 3 - 1))
        errors = rejected if name == "b" else 0.0
        seen[name] = ClusterObservation(load, load, mean, load * mean, breaker_errors=errors)
    return Observation(time, 2.0, seen, {"shop": DEMAND})


def test_a_plan_that_follows_a_change_is_not_blamed_for_it() -> None:
    trial = Trial(TOPOLOGY, GOOD, VerifyPolicy(), ObjectivePolicy())
    healthy = curves(400.0)
    for tick in range(10):
        trial.update(GOOD, window(2.0 * tick, GOOD, healthy), healthy)
    # At 20 s a cluster loses half of its capacity. While an emergency measure holds, no window
    # counts; the change is noticed, and then answered, before any does again. The other one has
    # more to do now, and its breaker says so.
    halved = curves(200.0, changed_at=22.0)
    trial.depart(24.0, halved)
    answer = Plan({"shop": {"a": 0.45, "b": 0.55}}, {})
    verdicts = []
    for tick in range(13, 26):
        check = trial.update(answer, window(2.0 * tick, answer, halved, 3.0), halved)
        verdicts += [check.verdict] if check else []
    assert Verdict.WORSE not in verdicts
    assert trial.good == answer


def test_a_plan_that_is_worse_by_what_was_known_still_is() -> None:
    trial = Trial(TOPOLOGY, GOOD, VerifyPolicy(), ObjectivePolicy())
    healthy = curves(400.0)
    for tick in range(10):
        trial.update(GOOD, window(2.0 * tick, GOOD, healthy), healthy)
    trial.depart(20.0, healthy)
    worse = Plan({"shop": {"a": 0.37, "b": 0.63}}, {})
    truth = {**healthy, "b": CurveEstimate(LatencyCurve(0.02, 195.0), 0.05, 0.05, 20)}
    checks = [trial.update(worse, window(2.0 * t, worse, truth), healthy) for t in range(11, 24)]
    assert Verdict.WORSE in [check.verdict for check in checks if check]


def test_a_change_after_the_clock_was_set_back_still_ends_the_trial() -> None:
    trial = Trial(TOPOLOGY, GOOD, VerifyPolicy(), ObjectivePolicy())
    healthy = curves(400.0)
    for tick in range(10):
        trial.update(GOOD, window(2.0 * tick, GOOD, healthy), healthy)
    trial.depart(20.0, healthy)
    trial.shift(-1000.0)
    answer = Plan({"shop": {"a": 0.45, "b": 0.55}}, {})
    changed = curves(200.0, changed_at=-970.0)
    check = trial.update(answer, window(-968.0, answer, changed), changed)
    assert check is not None
    assert check.verdict is Verdict.VOID
