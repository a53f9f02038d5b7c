"""What a window should show, against curves and against simulated queues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh import LatencyCurve
from eigenmesh.telemetry.history import Span, inside, total_age
from eigenmesh.telemetry.transient import Candidates, Prediction
from eigenmesh.telemetry.window import Window, log_likelihood

from .simulation import Mesh, Server

ANY_LOAD = st.floats(0.0, 1e5)


def predict(t0: float, capacity: float, start: float, load: float, seconds: float) -> Prediction:
    one = Candidates(np.array([t0]), np.array([capacity]))
    return one.predict(start, load, seconds, max(1.0, load * seconds))


def mean_of(p: Prediction) -> float:
    """The expected mean latency in seconds."""
    return float(np.exp(p.mean[0] + 0.5 * p.mean_spread[0] ** 2))


@pytest.mark.parametrize("rho", [0.1, 0.4, 0.6, 0.75])
@pytest.mark.parametrize("servers", [1, 2, 8, 50])
def test_a_settled_window_shows_the_curve(servers: int, rho: float) -> None:
    curve = LatencyCurve(0.02, servers / 0.02)
    load = rho * curve.capacity
    p = predict(curve.t0, curve.capacity, curve.in_flight(load), load, 60.0)
    assert mean_of(p) == pytest.approx(curve.latency(load), rel=0.06)
    assert float(np.expm1(p.count[0] + 0.5 * p.count_spread[0] ** 2)) == pytest.approx(
        curve.in_flight(load), rel=0.05, abs=0.05
    )


def test_overload_grows_and_a_backlog_drains_by_the_difference_of_rates() -> None:
    grown = predict(0.02, 100.0, 50.0, 160.0, 2.0)
    assert float(np.expm1(grown.count[0])) == pytest.approx(50 + 2 * 60, rel=0.05)
    drained = predict(0.02, 100.0, 500.0, 40.0, 2.0)
    assert float(np.expm1(drained.count[0])) == pytest.approx(500 - 2 * 60, rel=0.02)


def test_a_drain_ends_at_the_settled_level() -> None:
    p = predict(0.02, 10_000.0, 300.0, 100.0, 2.0)
    assert float(np.expm1(p.count[0])) < 4.0


@given(
    st.floats(1e-4, 100.0),
    st.floats(1e-2, 1e6),
    st.floats(0.0, 1e5),
    ANY_LOAD,
    st.floats(0.05, 600.0),
)
def test_predictions_are_finite_whatever_comes(
    t0: float, capacity: float, start: float, load: float, seconds: float
) -> None:
    p = predict(t0, capacity, start, load, seconds)
    for array in (p.mean, p.mean_spread, p.count, p.count_spread):
        assert np.isfinite(array).all()
    assert (p.mean_spread > 0).all()
    assert (p.count_spread > 0).all()
    window = Window(seconds, load, load, t0, start)
    assert np.isfinite(log_likelihood(Candidates(np.array([t0]), np.array([capacity])), window))


@pytest.mark.parametrize(
    ("server", "rho"),
    [(Server(8, 0.02), 0.75), (Server(4, 0.02), 0.85), (Server(2, 0.02), 0.55)],
)
def test_residuals_on_a_simulated_queue_are_standard(server: Server, rho: float) -> None:
    """Neither over-confident nor timid about how far a window of two seconds strays."""
    mesh = Mesh(3, {"q": server}, rho * server.capacity)
    truth = Candidates(np.array([server.service]), np.array([server.capacity]))
    residuals = []
    for _ in range(200):
        seen = mesh.window([1.0], 2.0).clusters["q"]
        assert seen.mean is not None
        start = seen.in_flight - (seen.load - seen.throughput) * 2.0
        p = truth.predict(start, seen.load, 2.0, seen.throughput * 2.0)
        residuals.append((np.log(seen.mean) - p.mean[0]) / p.mean_spread[0])
    assert abs(float(np.mean(residuals))) < 0.4
    assert 0.65 < float(np.std(residuals)) < 1.35


def test_ages_of_the_last_arrivals() -> None:
    assert total_age(0, [(10.0, 2.0)]) == 0.0
    # Ten arrivals over the last second, at half a second on average.
    assert total_age(10, [(10.0, 2.0)]) == pytest.approx(5.0)
    # Two seconds of silence, then ten of the arrivals before.
    assert total_age(10, [(0.0, 2.0), (10.0, 2.0)]) == pytest.approx(25.0)
    # Beyond what is remembered the rate is assumed to go on.
    assert total_age(40, [(10.0, 2.0)]) == pytest.approx(80.0)


@given(
    st.floats(0.0, 1e4),
    st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(0.1, 60.0)), max_size=10),
)
def test_ages_are_finite_and_grow_with_the_count(count: float, spans: list[Span]) -> None:
    less, more = total_age(count, spans), total_age(count + 1.0, spans)
    assert np.isfinite(more)
    assert 0.0 <= less <= more


def test_latency_inside_the_window_of_a_growing_queue() -> None:
    """100 requests/s are served of the 160 that come: 8 s into it, latencies tell of the past."""
    mesh = Mesh(1, {"q": Server(2, 0.02)}, 160.0)
    spans: list[Span] = []
    for _ in range(5):
        seen = mesh.window([1.0], 2.0).clusters["q"]
        window = Window(2.0, seen.load, seen.throughput, seen.mean, seen.in_flight)
        assert seen.mean is not None
        now = (seen.load, 2.0)
        own, blur = inside(
            seen.mean,
            window.completions,
            total_age(window.start, spans or [now]),
            total_age(seen.in_flight, [now, *spans]),
        )
        spans.insert(0, now)
    # By Little's law: half of the requests in flight at start and end, over the throughput.
    assert own == pytest.approx(0.5 * (window.start + seen.in_flight) / seen.throughput, rel=0.15)
    assert blur > 0.02


def test_an_impossible_correction_is_no_latency() -> None:
    assert inside(0.1, 10.0, 5.0, 0.0) == (None, 0.0)
    assert inside(0.0, 0.0, 0.0, 0.0) == (None, 0.0)
