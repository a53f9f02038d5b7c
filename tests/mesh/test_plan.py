"""Plans and topologies cannot be built wrong; integers sum exactly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh import (
    BreakerLimits,
    Cause,
    Cluster,
    ClusterObservation,
    MeshError,
    Plan,
    RetryBudget,
    Route,
    Topology,
)
from eigenmesh.mesh.plan import WEIGHT_TOTAL, to_integers

TOPOLOGY = Topology((Cluster("a"), Cluster("b"), Cluster("spare")), (Route("r", ("a", "b")),))


def splits(names: str = "abcdefg") -> st.SearchStrategy[dict[str, float]]:
    return (
        st.lists(st.floats(0.0, 1.0), min_size=1, max_size=len(names))
        .filter(lambda ws: sum(ws) > 1e-3)
        .map(lambda ws: {n: w / sum(ws) for n, w in zip(names, ws, strict=False)})
    )


@given(splits())
def test_integer_weights_sum_exactly_and_stay_close(split: dict[str, float]) -> None:
    integers = to_integers(split)
    assert sum(integers.values()) == WEIGHT_TOTAL
    assert all(abs(integers[n] - WEIGHT_TOTAL * w) <= 1.0 + 1e-6 for n, w in split.items())


def test_weights_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(MeshError, match=r"weights\.r.*sum to 1"):
        Plan({"r": {"a": 0.5, "b": 0.6}}, {})


def test_a_limit_of_zero_is_refused() -> None:
    with pytest.raises(MeshError, match=r"limits\.max_requests.*0 rejects every request"):
        BreakerLimits(0, 1, 1, 1)


def test_a_route_to_an_unknown_cluster_is_refused_with_the_known_ones() -> None:
    with pytest.raises(MeshError, match=r"route\.r\.clusters: 'b'.*use one of: a"):
        Topology((Cluster("a"),), (Route("r", ("a", "b")),))


def test_duplicate_names_are_refused() -> None:
    with pytest.raises(MeshError, match="clusters: 'a'"):
        Topology((Cluster("a"), Cluster("a")), ())


def test_unused_clusters_are_not_steered() -> None:
    assert TOPOLOGY.steered_clusters == ("a", "b")


@given(splits("ab"), st.integers(1, 5000))
def test_a_plan_survives_json(split: dict[str, float], limit: int) -> None:
    plan = Plan({"r": split}, {"a": BreakerLimits.around(limit)})
    assert Plan.from_dict(plan.to_dict()) == plan


@given(st.floats(0, 1), st.floats(0, 1), st.just(0.0) | st.floats(0.01, 50), st.floats(0, 20))
def test_what_fails_is_more_than_chance_and_no_timeout(
    share: float, timeouts: float, throughput: float, window: float
) -> None:
    failed = share * throughput
    seen = ClusterObservation(
        load=throughput,
        throughput=throughput,
        mean=None,
        in_flight=0.0,
        upstream_errors=failed,
        errors={Cause.TIMEOUT: timeouts * failed},
    )
    if share >= 0.9:
        # Hardly anything is answered: no matter of load.
        timeouts = 0.0
    if throughput > 0 and window > 0:
        assert 0.0 <= seen.failing(window, math.inf) <= share * (1.0 - timeouts) + 1e-9
    if throughput >= 1:
        assert seen.failing(1e12, math.inf) == pytest.approx(share * (1.0 - timeouts), abs=1e-5)


@pytest.mark.parametrize(
    ("load", "capacity", "failing"), [(50.0, 100.0, 1.0), (5.0, 100.0, 0.0), (50.0, 52.0, 0.0)]
)
def test_nothing_that_comes_back_of_many_is_a_failure_unless_it_was_too_much(
    load: float, capacity: float, failing: float
) -> None:
    silent = ClusterObservation(load=load, throughput=0.0, mean=None, in_flight=load)
    assert silent.failing(1.0, capacity) == failing


def test_timeouts_of_an_overload_are_not_failures() -> None:
    late = {Cause.TIMEOUT: 95.0}
    seen = ClusterObservation(100.0, 100.0, None, 0.0, upstream_errors=95.0, errors=late)
    assert seen.failing(10.0, 105.0) == 0.0
    assert seen.failing(10.0, 200.0) > 0.9


def test_a_plan_of_before_there_were_retry_budgets_is_read() -> None:
    limits = {"max_requests": 7, "max_connections": 8, "max_pending_requests": 9, "max_retries": 10}
    plan = Plan.from_dict({"weights": {}, "limits": {"a": limits}})
    assert plan.limits == {"a": BreakerLimits(7, 8, 9, 10)}
    assert plan.limits["a"].thresholds == limits


@pytest.mark.parametrize(
    ("percent", "least", "field"), [(101.0, 3, "budget_percent"), (20.0, -1, "min_retry_concurr")]
)
def test_a_budget_that_envoy_could_not_hold_is_refused(
    percent: float, least: int, field: str
) -> None:
    with pytest.raises(MeshError, match=rf"limits\.retry_budget\.{field}"):
        RetryBudget(percent, least)


def test_loads_are_demand_times_weight_over_all_routes() -> None:
    plan = Plan({"r": {"a": 0.25, "b": 0.75}, "s": {"b": 1.0}}, {})
    assert plan.loads({"r": 100.0, "s": 10.0}) == {"a": 25.0, "b": 85.0}
