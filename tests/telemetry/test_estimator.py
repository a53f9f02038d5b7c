"""Curves learned from windows."""

from __future__ import annotations

import heapq
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenmesh.mesh import ClusterObservation, Observation
from eigenmesh.telemetry.estimator import Estimator

from .simulation import DEGRADED, DEMAND, REFERENCE, Mesh, Server, closed_loop

WINDOW = 2.0

rates = st.one_of(st.just(0.0), st.floats(0.01, 1e5))
clusters = st.builds(
    ClusterObservation,
    load=rates,
    throughput=rates,
    mean=st.one_of(st.none(), st.floats(1e-5, 1e3)),
    in_flight=st.floats(0.0, 1e5),
    upstream_errors=rates,
    breaker_errors=rates,
)
streams = st.lists(
    st.tuples(st.floats(0.2, 60.0), st.dictionaries(st.sampled_from("abc"), clusters)),
    max_size=12,
)


def observations(stream: list[tuple[float, dict[str, ClusterObservation]]]) -> list[Observation]:
    time = 1e9
    made = []
    for seconds, seen in stream:
        time += seconds
        made.append(Observation(time, seconds, seen, {}))
    return made


def learned(
    servers: dict[str, Server],
    weights: list[float],
    demand: float,
    windows: int = 20,
    seed: int = 5,
) -> tuple[Estimator, Mesh]:
    mesh, estimator = Mesh(seed, servers, demand), Estimator()
    for _ in range(windows):
        estimator.update(mesh.window(weights, WINDOW))
    return estimator, mesh


@settings(max_examples=30, deadline=None)
@given(streams)
def test_estimates_are_finite_whatever_is_observed(
    stream: list[tuple[float, dict[str, ClusterObservation]]],
) -> None:
    estimator = Estimator()
    for observation in observations(stream):
        estimates = estimator.update(observation)
        assert estimates == estimator.estimates
        for one in estimates.values():
            assert math.isfinite(one.curve.latency(one.curve.capacity))
            assert 0.0 < one.t0_error < math.inf
            assert 0.0 < one.capacity_error < math.inf
            assert one.windows >= 1
    json.dumps(estimator.to_dict(), allow_nan=False)


@settings(max_examples=15, deadline=None)
@given(streams)
def test_what_is_journaled_is_resumed(
    stream: list[tuple[float, dict[str, ClusterObservation]]],
) -> None:
    estimator = Estimator()
    for observation in observations(stream):
        estimator.update(observation)
    text = json.dumps(estimator.to_dict())
    resumed = Estimator.from_dict(json.loads(text))
    assert json.loads(json.dumps(resumed.to_dict())).keys() == json.loads(text).keys()
    assert resumed.estimates.keys() == estimator.estimates.keys()
    for name, one in estimator.estimates.items():
        other = resumed.estimates[name]
        assert (other.windows, other.changed_at) == (one.windows, one.changed_at)
        tolerance = 0.02 + 0.5 * max(one.capacity_error, one.t0_error)
        assert other.curve.capacity == pytest.approx(one.curve.capacity, rel=tolerance)


def test_a_restart_does_not_move_the_grid() -> None:
    """What one odd window says lies at the grid's edge, where another look would move it."""
    seen = ClusterObservation(load=0.0, throughput=60187.25, mean=106.12109375, in_flight=0.0)
    estimator = Estimator()
    estimator.update(Observation(1e9, 20.0, {"b": seen}, {}))
    assert Estimator.from_dict(estimator.to_dict()).estimates == estimator.estimates


def test_a_restart_goes_on_where_it_stood() -> None:
    estimator, mesh = learned(REFERENCE, [0.6, 0.28, 0.12], DEMAND, 15)
    resumed = Estimator.from_dict(json.loads(json.dumps(estimator.to_dict())))
    for _ in range(5):
        observation = mesh.window([0.6, 0.28, 0.12], WINDOW)
        one, other = estimator.update(observation), resumed.update(observation)
        for name in REFERENCE:
            assert other[name].curve.t0 == pytest.approx(one[name].curve.t0, rel=0.03)
            assert other[name].curve.capacity == pytest.approx(one[name].curve.capacity, rel=0.03)


def test_the_same_stream_gives_the_same_curves() -> None:
    one, other = (learned(REFERENCE, [0.6, 0.28, 0.12], DEMAND, 8)[0] for _ in range(2))
    assert one.estimates == other.estimates


def test_nothing_is_known_before_the_first_latency() -> None:
    estimator = Estimator()
    silent = ClusterObservation(load=0.0, throughput=0.0, mean=None, in_flight=0.0)
    stuck = ClusterObservation(load=5.0, throughput=0.0, mean=None, in_flight=10.0)
    assert estimator.update(Observation(2.0, 2.0, {"a": silent, "b": stuck}, {})) == {}


def test_overload_shows_the_capacity_and_the_drain_shows_the_speed() -> None:
    estimator, mesh = learned({"q": Server(2, 0.02)}, [1.0], 160.0, windows=5)
    assert estimator.estimates["q"].curve.capacity == pytest.approx(100.0, rel=0.08)
    mesh.demand = 40.0
    for _ in range(12):
        estimate = estimator.update(mesh.window([1.0], WINDOW))["q"]
    assert estimate.curve.capacity == pytest.approx(100.0, rel=0.08)
    assert estimate.curve.t0 == pytest.approx(0.02, rel=0.25)
    assert estimate.changed_at is None


def test_a_loaded_queue_shows_both() -> None:
    estimator, mesh = learned({"q": Server(8, 0.02)}, [1.0], 150.0, windows=10)
    assert estimator.estimates["q"].curve.t0 == pytest.approx(0.02, rel=0.08)
    loose = estimator.estimates["q"].capacity_error
    mesh.demand = 340.0
    for _ in range(10):
        estimate = estimator.update(mesh.window([1.0], WINDOW))["q"]
    assert estimate.curve.capacity == pytest.approx(400.0, rel=0.1)
    assert estimate.capacity_error < 0.1 < loose
    assert estimate.changed_at is None


def test_hardly_any_load_keeps_the_estimate() -> None:
    estimator, mesh = learned({"q": Server(4, 0.02)}, [1.0], 170.0, windows=25)
    before = estimator.estimates["q"]
    mesh.demand = 2.0
    for _ in range(40):
        after = estimator.update(mesh.window([1.0], WINDOW))["q"]
    assert after.curve.capacity == pytest.approx(before.curve.capacity, rel=0.1)
    assert after.curve.t0 == pytest.approx(before.curve.t0, rel=0.15)
    assert after.changed_at is None


def test_no_data_changes_nothing() -> None:
    estimator, mesh = learned({"q": Server(4, 0.02)}, [1.0], 170.0)
    before = estimator.estimates
    missing = Observation(mesh.time + 2, 2.0, {}, {}, {"q": "no answer"})
    assert estimator.update(missing) == before


def failing(seen: ClusterObservation, fraction: float, seconds: float) -> ClusterObservation:
    """The same window, but `fraction` of the answers were errors of one millisecond."""
    assert seen.mean is not None
    return replace(
        seen,
        mean=(1 - fraction) * seen.mean + fraction * 0.001,
        in_flight=round((1 - fraction) * seen.in_flight),
        upstream_errors=fraction * seen.throughput,
    )


@pytest.mark.parametrize("fraction", [0.3, 0.9])
def test_fast_errors_are_not_speed(fraction: float) -> None:
    estimator, mesh = learned({"q": Server(4, 0.02)}, [1.0], 150.0)
    before = estimator.estimates["q"]
    for _ in range(10):
        observation = mesh.window([1.0], WINDOW)
        seen = failing(observation.clusters["q"], fraction, WINDOW)
        after = estimator.update(replace(observation, clusters={"q": seen}))["q"]
    assert after.curve == before.curve
    assert after.changed_at is None


def test_rejections_by_the_breaker_are_not_load() -> None:
    """Envoy's limit pins the requests in flight; what it lets in is what is served."""
    mesh, estimator = Mesh(2, {"q": Server(2, 0.02)}, 900.0), Estimator()
    for _ in range(8):
        estimate = estimator.update(mesh.window([1.0], WINDOW))["q"]
    assert mesh.window([1.0], WINDOW).clusters["q"].breaker_errors > 0
    assert estimate.curve.capacity == pytest.approx(100.0, rel=0.08)


@pytest.mark.parametrize("limit", [6, 10, 20])
@pytest.mark.parametrize("demand", [140.0, 240.0])
def test_a_full_house_tells_the_capacity(limit: int, demand: float) -> None:
    """A cluster that nobody has ever seen with room: latency is the limit's, whatever comes, which
    alone would be an upstream of many slow servers."""
    mesh = Mesh(7, {"q": Server(4, 0.04, limit=limit)}, demand)
    estimator = Estimator()
    for _ in range(8):
        estimate = estimator.update(mesh.window([1.0], WINDOW))["q"]
    assert estimate.curve.capacity == pytest.approx(100.0, rel=0.15)


def test_other_demand_is_not_another_upstream() -> None:
    mesh, estimator = Mesh(4, REFERENCE, DEMAND), Estimator()
    for demand in (200.0, 490.0, 300.0, 560.0, 150.0):
        mesh.demand = demand
        for _ in range(8):
            estimates = estimator.update(mesh.window([0.6, 0.28, 0.12], WINDOW))
    assert all(one.changed_at is None for one in estimates.values())


def test_a_single_odd_window_is_not_a_change() -> None:
    estimator, mesh = learned({"q": Server(4, 0.02)}, [1.0], 150.0)
    before = estimator.estimates["q"]
    observation = mesh.window([1.0], WINDOW)
    odd = replace(observation.clusters["q"], mean=0.1, in_flight=60.0)
    estimator.update(replace(observation, clusters={"q": odd}))
    for _ in range(3):
        after = estimator.update(mesh.window([1.0], WINDOW))["q"]
    assert after.changed_at is None
    assert after.curve.capacity == pytest.approx(before.curve.capacity, rel=0.15)


def delay(before: Server, after: Server, load: float, seed: int) -> float:
    """Windows until a change is noticed."""
    estimator, mesh = learned({"q": before}, [1.0], load, windows=20, seed=seed)
    began = mesh.time
    change = (began, {"q": after})
    for window in range(1, 12):
        observation = mesh.window([1.0], WINDOW, change if window == 1 else None)
        changed = estimator.update(observation)["q"].changed_at
        if changed is not None and changed > began:
            return window
    return math.inf


@pytest.mark.parametrize(
    ("after", "windows"),
    [(Server(8, 0.03), 3), (Server(4, 0.02), 3), (Server(8, 0.012), 3)],
    ids=["slower", "fewer", "faster"],
)
def test_another_upstream_is_noticed_within_three_windows(after: Server, windows: int) -> None:
    delays = [delay(Server(8, 0.02), after, 280.0, seed) for seed in range(2)]
    assert max(delays) <= windows, delays


@pytest.mark.parametrize("seed", [0, 1])
def test_steering_by_the_estimates_comes_near_the_optimum(seed: int) -> None:
    """The reference: overload at equal weights, take-over at 15 s, degradation at 50 s."""
    ticks = list(closed_loop(seed, end=90.0))
    settled = [t.gap for t in ticks if 27.0 <= t.time < 50.0]
    assert float(np.median(settled)) < 0.07
    assert max(settled) < 0.15
    assert [t.time for t in ticks if t.time >= 70.0 and t.gap > 0.25] == []
    last = ticks[-1]
    changes = [t.estimates["a"].changed_at for t in ticks]
    assert min(c for c in changes if c is not None) in (52.0, 54.0, 56.0)
    for name, server in DEGRADED.items():
        assert last.estimates[name].curve.capacity == pytest.approx(server.capacity, rel=0.12)


def full_house(
    slots: int, service: float, rate: float, first: int, seed: int = 0
) -> list[tuple[float, float]]:
    """(t0, capacity) as they are learned in windows of five seconds of a queue that is overloaded
    from the start, while its limit follows the knee of the curve from `first` on."""
    rng, estimator = np.random.default_rng(seed), Estimator()
    limit, now, learned = first, 0.0, []
    busy: list[tuple[float, float]] = []  # (leaves, came)
    free = [0.0] * slots
    for tick in range(30):
        end, rejected, sent = now + 5.0, 0, 0
        left: list[float] = []
        came = now + rng.exponential(1.0 / rate)
        while came < end:
            while busy and busy[0][0] <= came:
                leaves, since = heapq.heappop(busy)
                left.append(leaves - since)
            if len(busy) >= limit:
                rejected += 1
            else:
                sent += 1
                leaves = max(came, heapq.heappop(free)) + rng.exponential(service)
                heapq.heappush(free, leaves)
                heapq.heappush(busy, (leaves, came))
            came += rng.exponential(1.0 / rate)
        while busy and busy[0][0] <= end:
            leaves, since = heapq.heappop(busy)
            left.append(leaves - since)
        now = end
        seen = ClusterObservation(
            sent / 5.0,
            len(left) / 5.0,
            float(np.mean(left)) if left else None,
            float(len(busy)),
            breaker_errors=rejected / 5.0,
        )
        observation = Observation(now, 5.0, {"q": seen}, {"r": rate})
        curve = estimator.update(observation, limits={"q": float(limit)})["q"].curve
        learned.append((curve.t0, curve.capacity))
        if tick >= 3:
            wanted = math.ceil(1.25 * curve.in_flight(0.8 * curve.capacity))
            limit = int(min(max(wanted, limit // 2, 2), 2 * limit))
    return learned


@pytest.mark.parametrize(
    ("slots", "service", "off"), [(8, 0.04, 0.3), (100, 0.5, 0.3), (2, 0.01, 1)]
)
@pytest.mark.parametrize("first", [300, 1024])
def test_what_is_service_and_what_is_waiting_is_told_by_the_limit(
    slots: int, service: float, off: float, first: int
) -> None:
    # Of two slots the lowest limit that is tried is four: it takes twice the service at most.
    capacity = slots / service
    learned = full_house(slots, service, 1.3 * capacity, first)
    t0, found = learned[-1]
    assert t0 == pytest.approx(service, rel=off)
    assert found == pytest.approx(capacity, rel=0.1)


def test_what_is_left_of_a_larger_house_teaches_nothing() -> None:
    estimator = Estimator()
    for tick in range(5):
        seen = ClusterObservation(100.0, 100.0, 0.02, 2.0)
        estimator.update(Observation(5.0 * (tick + 1), 5.0, {"q": seen}, {}))
    before = estimator.estimates["q"]
    draining = ClusterObservation(20.0, 90.0, 1.5, 20.0, breaker_errors=80.0)
    estimator.update(Observation(30.0, 5.0, {"q": draining}, {}), limits={"q": 20.0})
    assert estimator.estimates["q"] == before
