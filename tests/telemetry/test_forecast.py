"""Forecasts of the next window's demand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.telemetry.forecast import Forecast

from .traces import TRACES, errors

SECONDS = 2.0


def after(values: Sequence[float]) -> float:
    forecast = Forecast()
    return [forecast.update({"r": value}, SECONDS)["r"] for value in values][-1]


@pytest.mark.parametrize("trace", TRACES)
def test_no_demand_is_forecast_worse_than_by_its_last_value(trace: str) -> None:
    for seed in range(2):
        found = errors(trace, seed)
        assert found["Eigenmesh"] <= found["last value"]


def test_chance_is_averaged_out() -> None:
    counts = np.random.default_rng(3).poisson(200.0, 60) / SECONDS
    assert after(counts.tolist()) == pytest.approx(100.0, rel=0.05)


def test_a_step_is_followed_at_once() -> None:
    assert after([100.0] * 30 + [160.0]) == 160.0
    assert after([100.0] * 30 + [0.0]) == 0.0


def test_every_route_has_its_own() -> None:
    forecast = Forecast()
    forecast.update({"a": 10.0, "b": 500.0}, SECONDS)
    assert forecast.update({"b": 500.0, "c": 7.0}, SECONDS) == {"b": 500.0, "c": 7.0}
    assert forecast.update({"a": 10.0}, SECONDS) == {"a": 10.0}


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30), st.floats(0.2, 60.0))
def test_a_forecast_lies_within_what_was_seen(values: list[float], window: float) -> None:
    forecast = Forecast()
    for value in values:
        expected = forecast.update({"r": value}, window)["r"]
    rounding = 1e-9 * max(values)
    assert min(values) - rounding <= expected <= max(values) + rounding
