"""Two readings of every proxy become one observation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eigenmesh.mesh import Cluster, ClusterObservation, Route, Topology
from eigenmesh.telemetry.catalogue import (
    ACTIVE,
    BUCKET,
    CLUSTER_STATS,
    COMPLETED,
    COUNT,
    ERRORS,
    GAUGES,
    OVERFLOWS,
    REJECTED,
    RETRY,
    SERVER,
    SUM,
    TIME,
    TOTAL,
    UPTIME,
    Catalogue,
    Owner,
    Slot,
)
from eigenmesh.telemetry.series import Reading, observe, span

TOPOLOGY = Topology((Cluster("a"), Cluster("b")), (Route("r", ("a", "b")),))
CATALOGUE = Catalogue(TOPOLOGY, {"r": ("shop", "r")})
A, B, R = Owner("cluster", "a"), Owner("cluster", "b"), Owner("route", "r")
COUNTERS = [s for s in CLUSTER_STATS if s not in GAUGES and s != TIME] + [SUM, COUNT]
BOUNDS = (10.0, 50.0, 200.0, math.inf)


def reading(time: float, values: dict[tuple[Owner, str], float], uptime: float = 100.0) -> Reading:
    made = Reading(time)
    made.put(Slot(SERVER, UPTIME), uptime)
    for owner in (A, B, R):
        made.put(Slot(owner, TOTAL), 0.0)
    for (owner, stat), value in values.items():
        made.put(Slot(owner, stat), value)
    return made


def a_of(before: Reading, after: Reading) -> ClusterObservation:
    return observe(7.0, {"p": span(before, after)}, CATALOGUE).clusters["a"]


def random_reading(rng: random.Random, time: float, since: Reading | None = None) -> Reading:
    """Counters that only grow, as of one Envoy."""
    made = Reading(time)
    made.put(Slot(SERVER, UPTIME), 100.0 + time)
    for owner in (A, B, R):
        old = since.stats[owner] if since else None
        for stat in (*COUNTERS, REJECTED):
            made.put(Slot(owner, stat), (old.get(stat) if old else 0.0) + rng.randint(0, 900))
        made.put(Slot(owner, ACTIVE), rng.randint(0, 50))
        count = 0.0
        for bound in BOUNDS:
            count += rng.randint(0, 9)
            was = old.buckets[bound] if old else 0.0
            made.put(Slot(owner, BUCKET, bound), was + count)
    return made


@given(st.integers(0, 2**32), st.integers(1, 3))
@example(25100020, 1)  # rounding carried a quantile beyond its bucket
def test_no_growth_of_counters_makes_a_negative_or_an_endless_number(
    seed: int, proxies: int
) -> None:
    rng = random.Random(seed)
    spans = {}
    for proxy in range(proxies):
        before = random_reading(rng, 0.0)
        spans[f"p{proxy}"] = span(before, random_reading(rng, rng.uniform(0.1, 9.0), before))
    seen = observe(5.0, spans, CATALOGUE)
    assert seen.complete
    for one in seen.clusters.values():
        values = [one.load, one.throughput, one.in_flight, one.upstream_errors]
        values += [one.breaker_errors, one.retries, *one.quantiles.values()]
        values += [one.mean] if one.mean is not None else []
        assert all(math.isfinite(v) and v >= 0 for v in values)
        assert 0.0 <= one.success_rate <= 1.0
        assert list(one.quantiles.values()) == sorted(one.quantiles.values())
    assert all(math.isfinite(d) and d >= 0 for d in seen.demands.values())


@given(st.integers(0, 2**32), st.sampled_from([*COUNTERS, BUCKET]), st.integers(1, 10**6))
def test_a_counter_that_goes_back_is_a_restart(seed: int, stat: str, back: int) -> None:
    rng = random.Random(seed)
    before = random_reading(rng, 0.0)
    after = random_reading(rng, 2.0, before)
    if stat == BUCKET:
        after.stats[A].buckets[50.0] = before.stats[A].buckets[50.0] - back
    else:
        after.stats[A].values[stat] = before.stats[A].get(stat) - back
    seen = observe(5.0, {"p": span(before, after)}, CATALOGUE)
    assert not seen.clusters
    assert not seen.demands
    assert all("went back" in seen.missing[name] for name in ("a", "b", "r"))


def test_breaker_rejections_are_not_the_upstreams_failures() -> None:
    after = {(A, TOTAL): 100.0, (A, COMPLETED): 150.0, (A, ERRORS): 60.0}
    after |= {(A, OVERFLOWS[0]): 30.0, (A, OVERFLOWS[1]): 20.0}
    seen = a_of(reading(0.0, {}), reading(2.0, after))
    assert seen.load == 50.0
    assert seen.throughput == 50.0
    assert seen.breaker_errors == 25.0
    assert seen.upstream_errors == 5.0
    assert seen.success_rate == pytest.approx(0.9)


def test_a_retried_attempt_was_a_failure_of_the_upstream() -> None:
    after = {(A, TOTAL): 100.0, (A, COMPLETED): 80.0, (A, RETRY): 20.0}
    seen = a_of(reading(0.0, {}), reading(1.0, after))
    assert (seen.throughput, seen.upstream_errors, seen.retries) == (100.0, 20.0, 20.0)


def test_demand_counts_what_comes_in_not_what_was_tried_or_finished() -> None:
    after = {(R, TOTAL): 120.0, (R, RETRY): 20.0, (R, REJECTED): 50.0}
    # 30 of the 50 were rejected by breakers, the other 20 are the upstream's own 503s.
    after |= {(A, OVERFLOWS[0]): 10.0, (B, OVERFLOWS[1]): 20.0}
    seen = observe(1.0, {"p": span(reading(0.0, {}), reading(1.0, after))}, CATALOGUE)
    assert seen.demands == {"r": 130.0}


def test_proxies_are_added_up_by_their_own_windows() -> None:
    one = span(reading(0.0, {}), reading(1.0, {(A, TOTAL): 10.0, (A, ACTIVE): 2.0}))
    two = span(reading(5.0, {}), reading(7.0, {(A, TOTAL): 40.0, (A, ACTIVE): 3.0}))
    seen = observe(9.0, {"p": one, "q": two}, CATALOGUE)
    assert seen.clusters["a"].load == 30.0
    assert seen.clusters["a"].in_flight == 5.0


def test_part_of_the_proxies_is_no_data() -> None:
    one = span(reading(0.0, {}), reading(1.0, {(A, TOTAL): 10.0}))
    seen = observe(9.0, {"p": one}, CATALOGUE, troubles={"q": "no answer within 1 s"})
    assert not seen.clusters
    assert seen.missing == dict.fromkeys(("a", "b", "r"), "q: no answer within 1 s")


def test_a_younger_envoy_is_another_envoy_even_when_it_counted_more() -> None:
    before = reading(0.0, {(A, TOTAL): 5.0}, uptime=30.0)
    found = span(before, reading(2.0, {(A, TOTAL): 500.0}, uptime=1.0))
    assert found.trouble == "Envoy was restarted"


def test_a_cluster_that_is_new_has_no_past_to_compare_with() -> None:
    before = reading(0.0, {})
    del before.stats[A]
    seen = observe(1.0, {"p": span(before, reading(1.0, {(A, TOTAL): 1e6}))}, CATALOGUE)
    assert seen.missing == {"a": "p: first scrape"}


def test_not_a_number_is_missing_with_its_name() -> None:
    after = reading(1.0, {(A, COMPLETED): math.nan})
    seen = observe(1.0, {"p": span(reading(0.0, {}), after)}, CATALOGUE)
    assert seen.missing == {"a": f"p: {COMPLETED} is nan"}


def test_a_vanished_cluster_is_missing() -> None:
    after = reading(1.0, {})
    del after.stats[B]
    seen = observe(1.0, {"p": span(reading(0.0, {}), after)}, CATALOGUE)
    assert seen.missing == {"b": "no statistics of this cluster"}


def test_a_clock_that_stands_still_makes_no_rates() -> None:
    seen = observe(1.0, {"p": span(reading(1.0, {}), reading(1.0, {}))}, CATALOGUE)
    assert set(seen.missing) == {"a", "b", "r"}
