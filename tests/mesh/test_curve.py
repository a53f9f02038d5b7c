"""The latency curve and the breaker model against queues whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh import LatencyCurve, MeshError, admitted_latency, blocked_fraction
from eigenmesh.mesh.curve import stretch

curves = st.builds(
    LatencyCurve,
    t0=st.floats(1e-3, 5.0),
    capacity=st.floats(1.0, 1e5),
    variability=st.floats(0.2, 4.0),
)


def erlang_c_latency(load: float, servers: int, service: float) -> float:
    """Exact M/M/c mean latency."""
    a = load * service
    waiting = a**servers / math.factorial(servers) / (1 - a / servers)
    states = sum(a**n / math.factorial(n) for n in range(servers))
    p_wait = waiting / (states + waiting)
    return service + p_wait / (servers / service - load)


def cut_queue(load: float, servers: int, service: float, limit: int) -> tuple[float, float]:
    """Exact M/M/c/limit: blocked fraction and mean latency of what is admitted."""
    states = [1.0]
    for n in range(1, limit + 1):
        states.append(states[-1] * load * service / min(n, servers))
    total = sum(states)
    blocked = states[-1] / total
    in_system = sum(n * p for n, p in enumerate(states)) / total
    return blocked, in_system / (load * (1 - blocked))


def test_one_server_is_the_mm1_queue_exactly() -> None:
    curve = LatencyCurve(t0=0.01, capacity=100.0)
    for load in (10.0, 50.0, 90.0):
        assert curve.latency(load) == pytest.approx(1.0 / (100.0 - load), rel=1e-12)


@pytest.mark.parametrize("servers", [2, 4, 8, 32])
@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7, 0.9])
def test_many_servers_follow_erlang_c(servers: int, rho: float) -> None:
    service = 0.02
    capacity = servers / service
    curve = LatencyCurve(t0=service, capacity=capacity)
    exact = erlang_c_latency(rho * capacity, servers, service)
    assert curve.latency(rho * capacity) == pytest.approx(exact, rel=0.03)


@given(curves, st.lists(st.floats(0, 2), min_size=3, max_size=3, unique=True))
def test_latency_increases_and_is_convex_even_beyond_capacity(
    curve: LatencyCurve, at: list[float]
) -> None:
    low, mid, high = (rho * curve.capacity for rho in sorted(at))
    t_low, t_mid, t_high = (curve.latency(x) for x in (low, mid, high))
    assert curve.t0 <= t_low * (1 + 1e-12)
    assert t_low <= t_mid * (1 + 1e-12)
    assert t_mid <= t_high * (1 + 1e-12)
    share = (mid - low) / (high - low)
    assert t_mid <= (t_low + share * (t_high - t_low)) * (1 + 1e-9)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_curve_that_means_nothing_cannot_be_built(value: float) -> None:
    with pytest.raises(MeshError, match="capacity"):
        LatencyCurve(t0=0.01, capacity=value)


@pytest.mark.parametrize("servers", [2, 8])
@pytest.mark.parametrize("rho", [0.7, 0.9, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("queue_factor", [2, 5])
def test_breaker_follows_the_exact_cut_queue(servers: int, rho: float, queue_factor: int) -> None:
    service, limit = 0.02, servers * queue_factor
    capacity = servers / service
    blocked, latency = cut_queue(rho * capacity, servers, service, limit)
    assert blocked_fraction(rho * capacity, service, capacity, limit) == pytest.approx(
        blocked, abs=0.01
    )
    assert admitted_latency(rho * capacity, service, capacity, limit) == pytest.approx(
        latency, rel=0.02
    )


@given(
    curves,
    st.floats(0.01, 3),
    st.integers(1, 2000),
    st.integers(1, 2000),
)
def test_a_higher_limit_blocks_less_and_waits_longer(
    curve: LatencyCurve, rho: float, limit: int, more: int
) -> None:
    load = rho * curve.capacity
    args = (load, curve.t0, curve.capacity)
    blocked, fewer = blocked_fraction(*args, limit), blocked_fraction(*args, limit + more)
    assert 0.0 <= fewer <= blocked + 1e-9
    assert blocked <= 1.0
    wait, longer = admitted_latency(*args, limit), admitted_latency(*args, limit + more)
    assert math.isfinite(wait)
    assert math.isfinite(longer)
    assert wait >= curve.t0 * (1 - 1e-9)


@given(curves, st.floats(0.05, 0.9))
def test_a_limit_that_never_binds_leaves_the_curve(curve: LatencyCurve, rho: float) -> None:
    load = rho * curve.capacity
    limit = 10_000 + 100 * curve.servers
    assert blocked_fraction(load, curve.t0, curve.capacity, limit) == pytest.approx(0, abs=1e-9)
    admitted = admitted_latency(load, curve.t0, curve.capacity, limit, curve.variability)
    assert admitted == pytest.approx(curve.latency(load), rel=1e-3)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_one_server_has_the_quantiles_of_an_mm1_queue(q: float) -> None:
    curve = LatencyCurve(0.01, 100.0)
    for load in (0.0, 40.0, 90.0):
        assert curve.quantile(load, q) == pytest.approx(-math.log(1 - q) / (100.0 - load))


@pytest.mark.parametrize("servers", [1.0, 4.0, 64.0])
def test_quantiles_grow_with_the_load_and_beyond_capacity(servers: float) -> None:
    curve = LatencyCurve(0.02, servers / 0.02)
    loads = np.linspace(0.0, 1.5, 61) * curve.capacity
    for q in (0.1, 0.5, 0.99):
        assert np.all(np.diff([curve.quantile(float(x), q) for x in loads]) >= -1e-12)


@pytest.mark.parametrize("q", [0.0, 1.0, float("nan")])
def test_what_is_no_fraction_is_no_quantile(q: float) -> None:
    with pytest.raises(MeshError, match="quantile"):
        LatencyCurve(0.01, 100.0).quantile(1.0, q)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("servers", [1.0, 2.5, 40.0])
def test_many_curves_at_once_have_the_quantiles_of_each(servers: float, q: float) -> None:
    curve = LatencyCurve(0.02, servers / 0.02, 1.5)
    rho = np.array([0.0, 0.3, 0.6, 0.8, 0.97])
    found = stretch(rho[:, None], np.array([servers, 7.0]), q, 1.5)[:, 0]
    for at, ratio in zip((rho * curve.capacity).tolist(), found.tolist(), strict=True):
        assert ratio == pytest.approx(curve.quantile(at, q) / curve.latency(at), rel=1e-6)
