"""Retry storms: what is one, what is not, and how its damping begins and ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.guard import Damping, Storm
from eigenmesh.mesh import (
    BreakerLimits,
    Cause,
    ClusterObservation,
    CurveEstimate,
    LatencyCurve,
    MeshError,
    Observation,
    Plan,
    RetryBudget,
    StormPolicy,
)

QUIET = 5.0


def seen(
    first: float, tries: float, answered: float, timeouts: float = 1.0, in_flight: float = 40.0
) -> ClusterObservation:
    """first: requests/s; tries: attempts for each; answered: fraction of the requests that
    succeed; timeouts: fraction of the failed attempts that Envoy gave up."""
    load, good = first * tries, first * answered
    return ClusterObservation(
        load=load,
        throughput=load,
        mean=0.1,
        in_flight=in_flight,
        upstream_errors=load - good,
        retries=load - first,
        errors={Cause.TIMEOUT: timeouts * (load - good)},
    )


def at(time: float, one: ClusterObservation | None) -> Observation:
    missing = {} if one else {"a": "no answer"}
    return Observation(time, 1.0, {"a": one} if one else {}, {}, missing)


STORM = seen(60.0, 2.8, 0.05)
CALM = seen(60.0, 1.02, 0.99)
LIMITS = BreakerLimits.around(100)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (CALM, "all is well"),
        (seen(60.0, 1.75, 0.87, timeouts=0.0), "it fails by itself, and retries are what helps"),
        (seen(60.0, 1.4, 0.97), "retries reach nearly everything"),
        (seen(5.0, 2.8, 0.05), "five requests say nothing"),
        (seen(60.0, 1.1, 0.6), "it is slow, and retries add little"),
    ],
)
def test_what_is_no_storm(one: ClusterObservation, why: str) -> None:
    assert Storm(StormPolicy()).update(at(0.0, one)) == {}, why


def test_amplification_with_falling_goodput_stops_the_retries_at_once() -> None:
    storm = Storm(StormPolicy())
    assert storm.update(at(0.0, seen(60.0, 1.4, 0.8))) == {"a": Damping(0.0)}
    assert "retry storm on a for 2 s (1.4 attempts for each request" in storm.why(2.0)
    limits = storm.over(Plan({}, {"a": LIMITS})).limits["a"]
    assert limits == replace(LIMITS, max_retries=1, retry_budget=RetryBudget(0.0, 0))


def test_a_collapse_sheds_load_whoever_repeats_the_requests() -> None:
    storm = Storm(StormPolicy())
    assert storm.update(at(0.0, seen(150.0, 1.0, 0.1)))["a"] == Damping(0.0, 20)
    assert storm.update(at(1.0, STORM))["a"] == Damping(0.0, 10)
    for time in range(2, 8):
        storm.update(at(time, STORM))
    assert storm.over(Plan({}, {})).limits["a"].max_requests == 1, "never 0"


def test_once_attempts_succeed_the_upstreams_places_are_filled_at_once() -> None:
    storm, places = Storm(StormPolicy()), 8
    curves = {"a": CurveEstimate(LatencyCurve(0.05, places / 0.05), 0.1, 0.1, 20)}
    assert storm.update(at(0.0, STORM), curves)["a"].max_requests == 4
    for time in (1.0, 2.0, 3.0):
        storm.update(at(time, STORM), curves)
    allowed = [storm.update(at(time, CALM), curves)["a"].max_requests for time in (4.0, 5.0, 6.0)]
    assert allowed == [8, 16, None]


def test_damping_is_let_go_step_by_step() -> None:
    storm = Storm(StormPolicy(quiet=QUIET))
    storm.update(at(0.0, STORM))
    allowed = [storm.update(at(float(t), CALM)).get("a") for t in range(1, 20)]
    assert allowed[:2] == [Damping(0.0, 40), Damping(0.0)]
    steps = [d.retries if d else 1.0 for d in allowed]
    assert steps == sorted(steps)
    assert [steps.index(step) + 1 for step in (0.25, 0.5, 1.0)] == [7, 12, 17]


def test_a_storm_that_returns_meanwhile_begins_anew() -> None:
    storm = Storm(StormPolicy(quiet=QUIET))
    storm.update(at(0.0, STORM))
    for time in range(1, 13):
        storm.update(at(time, CALM))
    assert storm.dampings["a"].retries == 0.5
    assert storm.update(at(13.0, STORM))["a"].retries == 0.0


def test_missing_data_begins_nothing_and_ends_nothing() -> None:
    storm = Storm(StormPolicy(quiet=QUIET))
    assert storm.update(at(0.0, None)) == {}
    before = storm.update(at(1.0, STORM))
    for time in range(2, 60):
        assert storm.update(at(time, None)) == before


def test_it_can_be_switched_off() -> None:
    assert Storm(StormPolicy(enabled=False)).update(at(0.0, STORM)) == {}


@given(
    st.lists(
        st.tuples(st.floats(0, 200), st.floats(1, 3), st.floats(0, 1), st.floats(0, 1)),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 2000),
)
def test_limits_are_only_ever_lowered(
    windows: list[tuple[float, float, float, float]], limit: int
) -> None:
    storm, own = Storm(StormPolicy()), BreakerLimits.around(limit)
    for time, (first, tries, answered, timeouts) in enumerate(windows):
        storm.update(at(float(time), seen(first, tries, answered, timeouts)))
        lowered = storm.over(Plan({}, {"a": own})).limits["a"]
        for name, value in lowered.thresholds.items():
            assert value <= own.thresholds[name]


def test_a_storm_of_the_clients_is_ended_too() -> None:
    """A queue that serves what was given up, a second at a time: left alone it stays full."""

    def goodput(storm: Storm | None) -> float:
        capacity, demand, patience, tries = 80.0, 60.0, 0.25, 3.0
        queue, limit, good = 0.0, 1e9, 0.0
        for second in range(40):
            speed = capacity / 5.0 if second < 5 else capacity
            late = queue / speed > patience
            sent = min(demand * (tries if late else 1.0), limit / (patience if late else 0.05))
            queue = max(0.0, queue + sent - speed)
            good = 0.0 if late else min(sent, demand)
            if storm is not None:
                # To Envoy every attempt of a client is a first one.
                one = seen(sent, 1.0, good / sent, in_flight=sent * (patience if late else 0.05))
                most = storm.update(at(float(second), one)).get("a", Damping(1.0)).max_requests
                limit = most or 1e9
        return good

    assert goodput(None) == 0.0
    assert goodput(Storm(StormPolicy())) == 60.0


@pytest.mark.parametrize(
    "wrong", [{"amplification": 1.0}, {"goodput": 0.0}, {"goodput": 1.5}, {"quiet": 0.0}]
)
def test_policies_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(MeshError, match=rf"storm\.{next(iter(wrong))}"):
        StormPolicy(**wrong)  # type: ignore[arg-type]
