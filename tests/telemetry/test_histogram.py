"""Mean and quantiles from Envoy's buckets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.telemetry.histogram import edge, mean, quantile

bounds = st.sets(st.floats(0.5, 1e5), min_size=1, max_size=30)
latencies = st.lists(st.floats(0.0, 2e5), min_size=1, max_size=60)


def counted(milliseconds: list[float], given_bounds: set[float]) -> dict[float, float]:
    """Cumulative buckets as Envoy fills them."""
    buckets = {bound: float(sum(ms < edge(bound) for ms in milliseconds)) for bound in given_bounds}
    return {**buckets, math.inf: float(len(milliseconds))}


@given(latencies, bounds, st.lists(st.floats(0.0, 1.0), min_size=2, max_size=10))
def test_quantiles_rise_and_their_bucket_holds_them(
    milliseconds: list[float], given_bounds: set[float], qs: list[float]
) -> None:
    buckets = counted(milliseconds, given_bounds)
    found = [quantile(buckets, q) for q in sorted(qs)]
    values = [f.value for f in found if f is not None]
    assert len(values) == len(qs)
    assert values == sorted(values)
    assert all(f.low <= f.value <= f.high for f in found if f is not None)


@given(latencies, bounds, st.floats(0.01, 1.0))
def test_the_true_quantile_lies_in_the_bucket(
    milliseconds: list[float], given_bounds: set[float], q: float
) -> None:
    found = quantile(counted(milliseconds, given_bounds), q)
    assert found is not None
    true = sorted(milliseconds)[max(0, math.ceil(q * len(milliseconds)) - 1)] / 1e3
    assert found.low - 1e-9 <= true <= found.high + 1e-9


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_edges_are_monotone_and_above_their_bound(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert edge(low) <= edge(high)
    assert edge(low) >= low


@pytest.mark.parametrize(
    ("bound", "upper"), [(0.5, 1.0), (1, 2), (9, 10), (15, 16), (50, 51), (100, 110), (2500, 2600)]
)
def test_a_bound_takes_in_the_whole_bin_it_falls_in(bound: float, upper: float) -> None:
    assert edge(bound) == pytest.approx(upper)


def test_interpolation_within_a_bucket() -> None:
    found = quantile({10: 0.0, 20: 100.0, math.inf: 100.0}, 0.5)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((0.011, 0.016, 0.021))


def test_beyond_the_last_bound_only_the_bound_is_known() -> None:
    found = quantile({50: 1.0, math.inf: 10.0}, 0.99)
    assert found is not None
    assert found.value == pytest.approx(0.051)
    assert math.isinf(found.high)


def test_nothing_completed_is_not_zero() -> None:
    assert quantile({10: 0.0, math.inf: 0.0}, 0.5) is None
    assert quantile({}, 0.5) is None
    assert mean(0.0, 0.0, {}) is None


def test_rounding_down_is_given_back_below_ten_milliseconds() -> None:
    # 100 latencies spread over 3.0 to 4.0 ms: Envoy records 3 and sums the bin's middle, 3.05.
    assert mean(305.0, 100.0, {2: 0.0, 3: 100.0, math.inf: 100.0}) == pytest.approx(0.0035)
    # From 10 ms on the bin's middle is right already.
    assert mean(3050.0, 100.0, {20: 0.0, 30: 100.0, math.inf: 100.0}) == pytest.approx(0.0305)
