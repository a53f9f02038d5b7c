"""The fast guard: only ever lowers, within its band, and not for one odd window."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.guard.fast import FastGuard
from eigenmesh.mesh import (
    BreakerLimits,
    ClusterObservation,
    CurveEstimate,
    FastPolicy,
    LatencyCurve,
    Observation,
    Plan,
)

CURVE = LatencyCurve(0.02, 400.0)
"""Eight slots."""
CURVES = {"up": CurveEstimate(CURVE, 0.05, 0.05, 100)}
PLAN = Plan({}, {"up": BreakerLimits.around(40)})
POLICY = FastPolicy(lowest=0.25)


def window(load: float, *, throughput: float, mean: float | None, in_flight: float) -> Observation:
    seen = ClusterObservation(load, throughput, mean, in_flight)
    return Observation(0.0, 1.0, {"up": seen}, {"r": load})


def healthy(load: float) -> Observation:
    mean = CURVE.latency(load)
    return window(load, throughput=load, mean=mean, in_flight=load * mean)


HALVED = window(300.0, throughput=200.0, mean=0.15, in_flight=38.0)
"""The cluster gets half of its capacity done."""


def feed(guard: FastGuard, *windows: Observation) -> int:
    for seen in windows:
        guard.update(seen, CURVES, PLAN)
    return guard.over(PLAN).limits["up"].max_requests


def test_a_cluster_that_gets_half_done_has_half_the_limit_after_two_windows() -> None:
    guard = FastGuard(POLICY)
    assert feed(guard, HALVED) == 40
    assert feed(guard, HALVED) == 20
    assert "latency 150 ms where the curve says" in guard.why(1.0)


def test_one_odd_window_changes_nothing() -> None:
    guard = FastGuard(POLICY)
    assert feed(guard, healthy(300.0), HALVED, healthy(300.0), HALVED) == 40


def test_a_cluster_that_hangs_goes_to_the_bottom_of_the_band() -> None:
    hung = window(300.0, throughput=0.0, mean=None, in_flight=40.0)
    assert feed(FastGuard(POLICY), hung, hung, hung, hung) == 10


def test_a_limit_comes_back_step_by_step_and_then_is_the_plans() -> None:
    guard = FastGuard(POLICY)
    feed(guard, HALVED, HALVED)
    found = [feed(guard, healthy(150.0)) for _ in range(5)]
    assert found == [25, 32, 40, 40, 40]
    assert guard.why(0.0) == ""


def test_a_storm_of_demand_alone_lowers_nothing() -> None:
    """More than the capacity comes, and the whole capacity gets done."""
    busy = window(600.0, throughput=400.0, mean=0.1, in_flight=40.0)
    assert feed(FastGuard(POLICY), *[busy] * 5) == 40


def test_a_full_house_that_is_too_slow_for_the_objective_gets_smaller() -> None:
    """As much as can be done is done, but behind a queue that nobody asked for."""
    guard = FastGuard(POLICY, slo=0.1)
    full = ClusterObservation(400.0, 400.0, 0.1, 40.0, breaker_errors=150.0)
    busy = Observation(0.0, 1.0, {"up": full}, {"r": 550.0})
    assert feed(guard, busy, busy) == 24, "60 ms of 400 requests/s"
    # Faster now, and still turning away: what would come back is the queue.
    full = ClusterObservation(400.0, 400.0, 0.06, 24.0, breaker_errors=150.0)
    busy = Observation(0.0, 1.0, {"up": full}, {"r": 550.0})
    assert feed(guard, *[busy] * 5) == 24
    assert feed(guard, healthy(200.0)) == 30


def test_without_data_or_a_curve_nothing_changes() -> None:
    guard = FastGuard(POLICY)
    feed(guard, HALVED, HALVED)
    nothing = Observation(0.0, 1.0, {}, {}, {"up": "no answer"})
    assert feed(guard, nothing) == 20
    assert FastGuard(POLICY).update(HALVED, {}, PLAN) == {}


def test_an_upstream_that_is_slow_rather_than_small_gets_back_what_it_serves_at_once() -> None:
    """Eight slots, each five times slower: with half of the requests half gets done."""
    guard, plan = FastGuard(POLICY, slo=0.1), Plan({}, {"up": BreakerLimits.around(12)})
    limit, found = 12, []
    for _ in range(12):
        served = min(limit, 8)
        cluster = ClusterObservation(
            served / 0.1, served / 0.1, limit * 0.1 / served, limit, breaker_errors=100.0
        )
        seen = Observation(0.0, 1.0, {"up": cluster}, {"r": 300.0})
        limit = guard.update(seen, CURVES, plan).get("up", 12)
        found.append(limit)
    assert min(found) < 6
    assert found[-1] >= 5, "most of what it can do"
    assert found[-1] == found[-4], "and it does not try again"


def test_what_is_lowered_comes_back_when_nothing_more_is_heard() -> None:
    guard = FastGuard(POLICY, max_age=15.0)
    feed(guard, HALVED, HALVED)
    found = [
        feed(guard, Observation(now, 1.0, {}, {}, {"up": "no answer"}))
        for now in (5.0, 15.0, 16.0, 17.0, 18.0, 19.0)
    ]
    assert found == [20, 20, 25, 32, 40, 40]


def test_a_plan_with_less_ends_what_was_lowered() -> None:
    guard = FastGuard(POLICY)
    feed(guard, HALVED, HALVED)
    less = Plan({}, {"up": BreakerLimits.around(15)})
    nothing = Observation(1.0, 1.0, {}, {}, {"up": "no answer"})
    assert guard.update(nothing, CURVES, less) == {}
    assert guard.why(0.0) == ""


def test_retries_are_lowered_with_it_and_a_lower_limit_is_left_alone() -> None:
    guard = FastGuard(POLICY)
    feed(guard, HALVED, HALVED)
    limits = guard.over(PLAN).limits["up"]
    assert limits.max_retries == 4
    lower = Plan({}, {"up": BreakerLimits.around(12)})
    assert guard.over(lower) == lower


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 1000.0),
            st.floats(0.0, 1000.0),
            st.none() | st.floats(1e-4, 5.0),
            st.floats(0.0, 1000.0),
        ),
        max_size=30,
    )
)
def test_it_only_ever_lowers_and_keeps_within_its_band(
    windows: list[tuple[float, float, float | None, float]],
) -> None:
    guard = FastGuard(POLICY, min_limit=8)
    for load, throughput, mean, in_flight in windows:
        seen = window(load, throughput=throughput, mean=mean, in_flight=in_flight)
        limit = feed(guard, seen)
        assert math.ceil(0.25 * 40) <= limit <= 40


@given(st.lists(st.floats(0.0, 390.0), max_size=30))
def test_a_cluster_that_does_as_its_curve_says_is_left_alone(loads: list[float]) -> None:
    guard = FastGuard(POLICY)
    assert feed(guard, *map(healthy, loads)) == 40 if loads else True
