"""Each rule of the guard, as the only thing between a plan and Envoy."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.guard import LimitRange, admit, lacking
from eigenmesh.guard.admit import project
from eigenmesh.mesh import (
    Bounds,
    BreakerLimits,
    Cluster,
    ClusterObservation,
    CurveEstimate,
    GuardPolicy,
    LatencyCurve,
    Observation,
    Plan,
    Route,
    Steps,
    Topology,
)

TOPOLOGY = Topology(tuple(Cluster(n) for n in "abc"), (Route("r", ("a", "b", "c")),))
OPEN = GuardPolicy(
    bounds=Bounds(0.0, 1.0), max_step=1.0, deadband=0.0, probe_floor=0.0, min_gain=-10.0
)
EQUAL = Plan({"r": {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}}, {})


def plan(a: float, b: float, c: float, limits: dict[str, int] | None = None) -> Plan:
    return Plan(
        {"r": {"a": a, "b": b, "c": c}},
        {name: BreakerLimits.around(limit) for name, limit in (limits or {}).items()},
    )


def policy(**changes: object) -> GuardPolicy:
    return GuardPolicy(**{**OPEN.__dict__, **changes})


def no_gain(_: Plan) -> float:
    return 1.0


def test_a_plan_within_every_rule_passes_untouched() -> None:
    wanted = plan(0.6, 0.3, 0.1)
    guarded = admit(TOPOLOGY, EQUAL, wanted, OPEN, no_gain)
    assert guarded.moves
    assert guarded.plan == wanted
    assert guarded.cuts == ()


def test_max_step_moves_along_the_line() -> None:
    guarded = admit(TOPOLOGY, EQUAL, plan(1.0, 0.0, 0.0), policy(max_step=0.1), no_gain)
    split = guarded.plan.weights["r"]
    assert split["a"] == pytest.approx(1 / 3 + 0.1)
    assert split["b"] == pytest.approx(1 / 3 - 0.05)
    assert [c.rule for c in guarded.cuts] == ["max_step"]


def test_bounds_and_probe_floor_hold() -> None:
    limits = policy(bounds=Bounds(0.0, 0.5), probe_floor=0.05)
    split = admit(TOPOLOGY, EQUAL, plan(1.0, 0.0, 0.0), limits, no_gain).plan.weights["r"]
    assert split["a"] <= 0.5 + 1e-9
    assert min(split.values()) >= 0.05 - 1e-9


def test_bounds_of_one_cluster_override() -> None:
    canary = policy(cluster_bounds={("r", "c"): Bounds(0.0, 0.05)})
    split = admit(TOPOLOGY, plan(0.5, 0.5, 0.0), plan(0.0, 0.0, 1.0), canary, no_gain)
    assert split.plan.weights["r"]["c"] <= 0.05 + 1e-9


def test_deadband_keeps_the_route() -> None:
    guarded = admit(
        TOPOLOGY, plan(0.5, 0.3, 0.2), plan(0.505, 0.3, 0.195), policy(deadband=0.01), no_gain
    )
    assert not guarded.moves
    assert [c.rule for c in guarded.cuts] == ["deadband"]


def test_min_gain_stops_what_is_not_worth_it() -> None:
    def objective(p: Plan) -> float:
        return 1.0 - 0.005 * (p != EQUAL)

    guarded = admit(TOPOLOGY, EQUAL, plan(0.5, 0.3, 0.2), policy(min_gain=0.01), objective)
    assert not guarded.moves
    assert guarded.plan == EQUAL
    assert "min_gain" in guarded.why


def test_a_limit_moves_by_at_most_the_factor_and_stays_in_range() -> None:
    old = plan(1 / 3, 1 / 3, 1 / 3, {"a": 1024, "b": 100, "c": 20})
    wanted = plan(1 / 3, 1 / 3, 1 / 3, {"a": 10, "b": 900, "c": 2})
    guarded = admit(TOPOLOGY, old, wanted, policy(max_limit_step=2.0, min_limit=12), no_gain)
    limits = {name: one.max_requests for name, one in guarded.plan.limits.items()}
    assert limits == {"a": 512, "b": 200, "c": 12}


def test_a_limit_that_hardly_moves_stays() -> None:
    old = plan(1 / 3, 1 / 3, 1 / 3, {"a": 100})
    guarded = admit(TOPOLOGY, old, plan(1 / 3, 1 / 3, 1 / 3, {"a": 105}), OPEN, no_gain)
    assert not guarded.moves


weights3 = st.lists(st.floats(0.001, 1.0), min_size=3, max_size=3).map(
    lambda ws: plan(ws[0] / sum(ws), ws[1] / sum(ws), ws[2] / sum(ws))
)


@given(weights3, weights3, st.floats(0.01, 1.0), st.floats(0.0, 0.3), st.floats(0.4, 1.0))
def test_whatever_is_proposed_the_step_and_the_sum_hold(
    old: Plan, wanted: Plan, step: float, low: float, high: float
) -> None:
    limits = policy(max_step=step, bounds=Bounds(low, high))
    guarded = admit(TOPOLOGY, old, wanted, limits, no_gain)
    assert guarded.plan.distance(old) <= step + 1e-9
    assert sum(guarded.plan.weights["r"].values()) == pytest.approx(1.0)


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 0.2), st.floats(0.5, 1.0)), min_size=2, max_size=5
    )
)
def test_projection_stays_in_the_box_and_sums_to_one(
    rows: list[tuple[float, float, float]],
) -> None:
    wanted, lows, highs = (list(column) for column in zip(*rows, strict=True))
    result = project(wanted, lows, highs)
    assert sum(result) == pytest.approx(1.0, abs=1e-9)
    for value, low, high in zip(result, lows, highs, strict=True):
        assert low - 1e-9 <= value <= high + 1e-9


def observation(missing: dict[str, str] | None = None, demand: float = 10.0) -> Observation:
    seen = ClusterObservation(load=3.0, throughput=3.0, mean=0.01, in_flight=0.0)
    return Observation(100.0, 2.0, dict.fromkeys("abc", seen), {"r": demand}, missing or {})


CURVES = {name: CurveEstimate(LatencyCurve(0.01, 100.0), 0.1, 0.1, 5) for name in "abc"}


def test_enough_evidence_lets_the_plan_move() -> None:
    assert lacking(TOPOLOGY, observation(), CURVES, OPEN, now=101.0) is None


@pytest.mark.parametrize(
    ("seen", "curves", "now", "why"),
    [
        (observation({"a": "no series"}), CURVES, 101.0, "no data for a: no series"),
        (observation(), CURVES, 200.0, "100 s old"),
        (observation(demand=0.0), CURVES, 101.0, "no traffic"),
        (observation(), {"a": CURVES["a"]}, 101.0, "still learning.*b, c"),
    ],
)
def test_missing_evidence_holds(
    seen: Observation, curves: dict[str, CurveEstimate], now: float, why: str
) -> None:
    reason = lacking(TOPOLOGY, seen, curves, OPEN, now)
    assert reason is not None
    assert re.search(why, reason)


def test_a_limit_that_would_cut_normal_bursts_alone_is_raised_to_the_floor() -> None:
    old = plan(1 / 3, 1 / 3, 1 / 3, {"a": 20})
    wanted = plan(1 / 3, 1 / 3, 1 / 3, {"a": 8})
    ranges = {"a": LimitRange(floor=14)}
    guarded = admit(TOPOLOGY, old, wanted, policy(max_limit_step=10.0), no_gain, ranges)
    assert guarded.plan.limits["a"].max_requests == 14
    assert [c.rule for c in guarded.cuts] == ["false_open"]


def test_a_limit_that_protects_nobody_comes_down_without_a_gain() -> None:
    old = plan(0.6, 0.2, 0.2, {"a": 1024, "b": 1024, "c": 30})
    wanted = plan(0.5, 0.3, 0.2, {"a": 40, "b": 40, "c": 20})
    ranges = {"a": LimitRange(ceiling=60), "b": LimitRange(), "c": LimitRange(ceiling=60)}
    guarded = admit(TOPOLOGY, old, wanted, policy(min_gain=0.01), no_gain, ranges)
    assert guarded.moves
    limits = {name: one.max_requests for name, one in guarded.plan.limits.items()}
    assert limits == {"a": 512, "b": 1024, "c": 30}, "nothing else moves"
    assert guarded.plan.weights == old.weights
    assert "protect nobody" in guarded.why


def test_weights_out_of_their_bounds_go_there_without_a_gain_and_in_steps() -> None:
    rules = policy(
        cluster_bounds={("r", "a"): Bounds(0.6, 0.6)}, max_step=0.1, deadband=0.05, min_gain=0.01
    )
    now, steps = EQUAL, 0
    while abs(now.weights["r"]["a"] - 0.6) > 1e-9 and steps < 10:
        guarded = admit(TOPOLOGY, now, plan(0.6, 0.2, 0.2), rules, no_gain)
        assert guarded.moves
        assert now.distance(guarded.plan) <= 0.1 + 1e-9
        now, steps = guarded.plan, steps + 1
    assert steps == 3, "the last step is below the deadband"
    assert not admit(TOPOLOGY, now, plan(0.6, 0.3, 0.1), rules, no_gain).moves


def test_a_cluster_that_fails_may_be_left_in_larger_steps() -> None:
    rules = policy(max_step=0.1, emergency_step=0.3)
    for failing, step in ((["b"], 0.3), ([], 0.1)):
        guarded = admit(TOPOLOGY, EQUAL, plan(1.0, 0.0, 0.0), rules, no_gain, failing=failing)
        assert EQUAL.distance(guarded.plan) == pytest.approx(step)


def test_a_route_has_its_own_steps_and_a_cluster_its_own_limits() -> None:
    rules = policy(
        max_step=0.3, steps={"r": Steps(0.05, 0.0)}, limits={"a": (40, 60)}, max_limit_step=10.0
    )
    wanted = plan(1.0, 0.0, 0.0, {"a": 10, "b": 10})
    old = plan(1 / 3, 1 / 3, 1 / 3, {"a": 50, "b": 50})
    guarded = admit(TOPOLOGY, old, wanted, rules, no_gain)
    assert old.distance(guarded.plan) == pytest.approx(0.05)
    assert {n: m.max_requests for n, m in guarded.plan.limits.items()} == {"a": 40, "b": 10}
    still = policy(deadband=0.0, steps={"r": Steps(1.0, 0.9)})
    assert admit(TOPOLOGY, EQUAL, plan(0.6, 0.2, 0.2), still, no_gain).plan == EQUAL
