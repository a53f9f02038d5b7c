"""The twin against what is known exactly: queueing theory, and what can never happen."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.scenarios import document, twin
from bench.scenarios.engine import OVERLOADED, Engine
from bench.scenarios.model import Condition, Scenario
from bench.scenarios.parts import Steering
from bench.scenarios.view import View
from eigenmesh.demo.oracle import Upstream
from eigenmesh.mesh import BreakerLimits, Plan


def scenario(**changes: Any) -> Scenario:
    (one,) = document.parse(
        {
            "about": "Two upstreams.",
            "seconds": 20,
            "warm_up": 2,
            "overhead": 0,
            "capacities": {"a": 200, "b": 100},
            "routes": {"shop": ["a", "b"]},
            **changes,
        },
        "small",
    )
    return one


def split(a: float, **limits: BreakerLimits) -> Steering:
    return Steering(Plan({"shop": {"a": a, "b": 1.0 - a}}, limits))


def played(one: Scenario, steering: Steering, rate: float, seconds: float) -> Engine:
    engine = Engine(one, 1, start=0.0)
    engine.steer(steering)
    engine.run(seconds, {"shop": rate})
    return engine


@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (4, 0.7), (4, 0.85)])
def test_one_upstream_is_the_queue_of_erlangs_formula(slots: int, load: float) -> None:
    truth = Upstream("a", slots, 0.02)
    one = scenario(capacities={"a": truth.capacity, "b": 10})
    engine = played(one, split(1.0), load * truth.capacity, 200_000 / truth.capacity / load)
    mean = float(np.mean(np.array(engine.latency)[2000:]))
    assert mean == pytest.approx(truth.mean_latency(load * truth.capacity), rel=0.05)


def test_the_least_loaded_of_two_is_better_than_a_random_one() -> None:
    one = scenario(capacities={"a": 150, "b": 150})
    even = float(np.mean(played(one, split(0.5), 240.0, 200.0).latency))
    means = {}
    for choices in (2, 10):
        engine = Engine(one, 1, start=0.0, one_cluster=True)
        engine.steer(Steering(Plan({"shop": {"a": 0.5, "b": 0.5}}, {}), choices=choices))
        engine.run(200.0, {"shop": 240.0})
        means[choices] = float(np.mean(engine.latency))
    assert means[10] < means[2] < even


def test_endpoint_weights_are_served_in_turns() -> None:
    one = scenario(capacities={"a": 1000, "b": 1000})
    engine = Engine(one, 1, start=0.0, one_cluster=True)
    engine.steer(Steering(split(0.75).plan, endpoints=True))
    engine.run(10.0, {"shop": 400.0})
    counts = [engine.servers[name].arrived for name in "ab"]
    # Drawn at random they would be off by some 27 (a standard deviation).
    assert abs(counts[0] - 3 * counts[1]) <= 3


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    limit=st.integers(1, 12),
    rate=st.floats(20.0, 600.0),
    retries=st.integers(0, 3),
    per_try=st.one_of(st.none(), st.floats(0.005, 0.1)),
    timeout=st.floats(0.05, 2.0),
    proxies=st.integers(1, 3),
    trouble=st.sampled_from(["none", "errors", "fails", "hangs", "slow"]),
    choices=st.one_of(st.none(), st.integers(2, 4)),
)
def test_no_request_is_lost_and_no_limit_exceeded(
    seed: int,
    limit: int,
    rate: float,
    retries: int,
    per_try: float | None,
    timeout: float,
    proxies: int,
    trouble: str,
    choices: int | None,
) -> None:
    route = {"clusters": ["a", "b"], "retries": retries, "timeout": timeout}
    one = scenario(routes={"shop": {**route, "per_try_timeout": per_try}})
    engine = Engine(one, seed, start=0.0, proxies=proxies, one_cluster=choices is not None)
    limits = BreakerLimits.around(limit)
    names = ("shop",) if choices else ("a", "b")
    engine.steer(Steering(split(0.6).plan, choices=choices))
    plan = Plan({"shop": {"a": 0.6, "b": 0.4}}, dict.fromkeys(names, limits))
    engine.steer(Steering(plan, choices=choices))
    healthy = Condition(4, 0.02)
    worse = {
        "none": healthy,
        "errors": Condition(4, 0.02, error_rate=0.3),
        "fails": Condition(4, 0.02, fail_after=0.005),
        "hangs": Condition(4, 0.02, hang=True),
        "slow": Condition(2, 0.3),
    }[trouble]
    most = max(limit, proxies)
    for step in range(60):
        if step == 20:
            engine.become("a", worse)
        if step == 40:
            engine.become("a", healthy)
        engine.run(engine.now + 0.05, {"shop": rate})
        for name, gates in engine._gates.items():
            assert 0 <= sum(gate.active for gate in gates) <= most, name
            assert all(gate.retrying >= 0 for gate in gates)
        assert engine.outstanding == sum(g.active for gs in engine._gates.values() for g in gs)
        assert all(s.busy <= 4 for s in engine.servers.values())
    engine.run(engine.now + 10.0, {})
    engine.close()
    assert len(engine.status) == engine.entered
    assert engine.outstanding == 0
    blocked = sum(status == OVERLOADED for status in engine.status)
    assert blocked <= sum(meter.rejected for meter in engine.meters.values())


def test_a_retry_storm_reaches_the_upstream_many_times_over() -> None:
    route = {"clusters": ["a"], "retries": 3, "per_try_timeout": "50ms", "retry_limit": 1000}
    one = scenario(routes={"shop": route})
    engine = Engine(one, 1, start=0.0)
    engine.steer(Steering(Plan({"shop": {"a": 1.0}}, {})))
    engine.run(10.0, {"shop": 300.0})
    assert engine.servers["a"].arrived > 2.5 * engine.entered
    frugal = Engine(scenario(routes={"shop": {**route, "retry_limit": 3}}), 1, start=0.0)
    frugal.steer(Steering(Plan({"shop": {"a": 1.0}}, {})))
    frugal.run(10.0, {"shop": 300.0})
    assert frugal.servers["a"].arrived < 1.5 * frugal.entered


def test_a_timeout_ends_the_wait_and_not_the_work() -> None:
    one = scenario(routes={"shop": {"clusters": ["a"], "timeout": "100ms"}})
    engine = Engine(one, 1, start=0.0)
    engine.steer(Steering(Plan({"shop": {"a": 1.0}}, {})))
    engine.run(10.0, {"shop": 400.0})
    late = max(latency for latency in engine.latency)
    assert late == pytest.approx(0.1, abs=1e-6)
    waiting = len(engine.servers["a"].waiting)
    assert waiting > 1000  # nobody waits for most of them any more
    assert engine.outstanding < 100


def test_calls_are_made_one_after_the_other_and_count_for_the_caller() -> None:
    one = scenario(
        capacities={"a": 1000, "b": 1000},
        service_time={"a": "1ms", "b": "1ms"},
        clusters={"a": {"calls": {"inner": 2}}, "b": {"afar": True}},
        apart={"distance": "20ms"},
        routes={"shop": {"clusters": ["a"], "share": 1}, "inner": {"clusters": ["b"], "share": 0}},
    )
    engine = Engine(one, 1, start=0.0)
    engine.steer(Steering(Plan({"shop": {"a": 1.0}, "inner": {"b": 1.0}}, {})))
    engine.run(50.0, {"shop": 20.0})
    assert engine.paths["inner"].asked == pytest.approx(2 * engine.paths["shop"].asked, abs=6)
    mean = float(np.mean(engine.latency))
    assert mean == pytest.approx(0.001 + 2 * 0.021, rel=0.05)


def test_two_policies_meet_the_same_requests() -> None:
    one = scenario()
    engines = [Engine(one, 7, start=0.0) for _ in range(2)]
    for engine, a in zip(engines, (0.9, 0.5), strict=True):
        engine.steer(split(a))
    for step in range(1, 11):  # one of them is looked at more often
        engines[0].run(step / 2.0, {"shop": 100.0})
    engines[1].run(5.0, {"shop": 100.0})
    for engine in engines:
        engine.run(50.0, {})
    first, second = (np.sort(np.array(engine.due)) for engine in engines)
    assert first == pytest.approx(second)


def test_a_scrape_shows_what_happened_and_nothing_when_metrics_are_lost() -> None:
    async def check() -> None:
        engine = Engine(scenario(), 1, start=0.0)
        engine.steer(split(0.6))
        view = View(engine, 1000.0)
        engine.run(20.0, {"shop": 150.0})
        seen = await view.observe(1020.0)
        assert seen.complete
        assert seen.window == 20.0
        assert seen.demands["shop"] == pytest.approx(150.0, rel=0.1)
        a = seen.clusters["a"]
        assert a.mean is not None
        assert a.load == pytest.approx(90.0, rel=0.1)
        assert a.quantiles[0.5] < a.mean < a.quantiles[0.99]
        view.lost = True
        assert (await view.observe(1021.0)).missing
        view.lost = False
        engine.run(22.0, {"shop": 150.0})
        assert (await view.observe(1022.0)).missing  # counting begins anew
        engine.run(24.0, {"shop": 150.0})
        assert (await view.observe(1024.0)).window == 2.0

    asyncio.run(check())


def test_eigenmesh_learns_in_the_twin_what_nobody_tells_it() -> None:
    one = scenario(
        capacities={"a": 400, "b": 100},
        seconds=40,
        load={"level": 0.6},
    )
    runs = {
        policy: asyncio.run(twin.play(one, policy, 1)).run.figures(25.0, 40.0, 0.1)
        for policy in ("equal", "oracle", "Eigenmesh")
    }
    assert runs["Eigenmesh"]["mean"] < 1.15 * runs["oracle"]["mean"]
    assert runs["Eigenmesh"]["mean"] < 0.2 * runs["equal"]["mean"]
    assert runs["Eigenmesh"]["success"] > 0.99


def test_what_is_farther_is_answered_later_and_paid_for() -> None:
    apart = {"apart": {"distance": "30ms", "egress_cost": "10ms"}}
    far = {**apart, "clusters": {"a": {"afar": True}, "b": {}}}
    runs = [
        asyncio.run(twin.play(scenario(load={"level": 0.2}, **changes), "equal", 1)).run
        for changes in (apart, far)
    ]
    near, away = (run.figures(0.0, 20.0, 0.1) for run in runs)
    assert away["mean"] - near["mean"] == pytest.approx(0.015, rel=0.1)
    assert near["cost"] == near["mean"]
    assert away["cost"] - away["mean"] == pytest.approx(0.005, rel=0.1)
