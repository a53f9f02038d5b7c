"""Erlang's formulas against closed forms, and the optimum against its rivals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenmesh.demo import stage
from eigenmesh.demo.oracle import Upstream, best_weights, mean_latency, proportional

upstreams = st.lists(
    st.tuples(st.integers(1, 32), st.floats(0.005, 0.2)), min_size=2, max_size=4
).map(lambda rows: [Upstream(f"u{i}", c, s) for i, (c, s) in enumerate(rows)])


@pytest.mark.parametrize("load", [0.0, 1.0, 25.0, 49.0])
def test_one_slot_is_the_mm1_queue(load: float) -> None:
    assert Upstream("u", 1, 0.02).mean_latency(load) == pytest.approx(1 / (50.0 - load))


def test_erlang_c_of_two_slots_at_half_load() -> None:
    # C(2, 1) = 1/3, the textbook's value.
    u = Upstream("u", 2, 1.0)
    assert u.wait_probability(1.0) == pytest.approx(1 / 3)
    assert u.mean_latency(1.0) == pytest.approx(4 / 3)


def test_at_capacity_the_queue_never_ends() -> None:
    assert math.isinf(Upstream("u", 4, 0.02).mean_latency(200.0))


@settings(max_examples=60, deadline=None)
@given(upstreams, st.floats(0.05, 0.95), st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4))
def test_no_other_split_beats_the_optimum(
    ups: list[Upstream], share: float, raw: list[float]
) -> None:
    demand = share * sum(u.capacity for u in ups)
    best = best_weights(ups, demand)
    assert sum(best.weights.values()) == pytest.approx(1.0)
    assert best.mean <= mean_latency(ups, proportional(ups), demand) * (1 + 1e-6)
    parts = raw[: len(ups)]
    rival = {u.name: part / sum(parts) for u, part in zip(ups, parts, strict=True)}
    assert best.mean <= mean_latency(ups, rival, demand) * (1 + 1e-4)


def test_more_than_the_total_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="less than the total capacity, 700"):
        best_weights(stage.UPSTREAMS, 700.0)


def test_the_demo_is_a_real_problem() -> None:
    """Equal weights overload the smallest; the healthy optimum overloads the degraded best."""
    equal = {u.name: 1 / 3 for u in stage.UPSTREAMS}
    assert math.isinf(mean_latency(stage.UPSTREAMS, equal, stage.DEMAND))
    healthy = stage.oracle().weights
    assert math.isinf(mean_latency(stage.DEGRADED, healthy, stage.DEMAND))
    assert sum(u.capacity for u in stage.UPSTREAMS) * 0.7 == pytest.approx(stage.DEMAND)
