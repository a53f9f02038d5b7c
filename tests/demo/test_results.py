"""What is counted, and what counts as recovered."""

from __future__ import annotations

import numpy as np
import pytest

from eigenmesh.demo.load import FAILED, LATE, UNANSWERED
from eigenmesh.demo.loadgen import Record, Table
from eigenmesh.demo.results import Stats, recovery, summarise, timeline, verdict


def table(rows: list[tuple[float, float, int, bool]]) -> Table:
    return Table.of([Record("p", "shop", t, t, lat, s, o) for t, lat, s, o in rows])


def steps(*levels: tuple[float, float], rate: float = 50.0) -> Table:
    """(until, latency): constant latencies, one level after the other."""
    rows, t = [], 0.0
    for until, latency in levels:
        while t < until:
            rows.append((t, latency, 200, False))
            t += 1 / rate
    return table(rows)


def test_every_request_is_in_exactly_one_column() -> None:
    stats = summarise(
        table(
            [
                (0.0, 0.02, 200, False),
                (0.1, 0.20, 200, False),
                (0.2, 0.001, 503, True),
                (0.3, 0.002, 503, False),
                (0.4, 5.0, LATE, False),
                (0.5, 1.0, UNANSWERED, False),
                (0.6, 0.001, FAILED, False),
            ]
        ),
        seconds=2.0,
        slo=0.1,
    )
    assert (stats.requests, stats.rejected, stats.unanswered, stats.failed) == (7, 1, 2, 2)
    assert stats.errors == 5
    assert stats.goodput == 0.5
    assert stats.good == pytest.approx(1 / 7)
    # Fast failures do not make a policy fast; those that waited in vain make it slow.
    assert stats.mean == pytest.approx((0.02 + 0.20 + 5.0 + 1.0) / 4)


def test_recovery_is_when_it_is_back_for_good() -> None:
    back = recovery(steps((8.0, 0.5), (30.0, 0.05)), target=0.05, seconds=30.0)
    assert back == pytest.approx(8.0, abs=0.5)


def test_a_good_moment_in_between_is_no_recovery() -> None:
    dip = steps((4.0, 0.5), (10.0, 0.05), (20.0, 0.5), (30.0, 0.05))
    assert recovery(dip, target=0.05, seconds=30.0) == pytest.approx(20.0, abs=0.5)
    assert recovery(steps((30.0, 0.5)), target=0.05, seconds=30.0) is None
    late = steps((26.0, 0.5), (30.0, 0.05))
    assert recovery(late, target=0.05, seconds=30.0) is None  # too short to tell


def test_rejecting_the_load_is_no_recovery() -> None:
    rows = [
        (t, 0.01, 503 if i % 10 == 0 else 200, i % 10 == 0)
        for i, t in enumerate(np.arange(0.0, 30.0, 0.02).tolist())
    ]
    assert recovery(table(rows), target=0.05, seconds=30.0) is None


def test_the_timeline_leaves_gaps_where_nothing_was_sent() -> None:
    records = [Record("p", "shop", t, t, 0.1, 200, False) for t in (10.0, 10.1, 12.0)]
    bins = timeline(records, 0.5)
    assert [b.time for b in bins] == [10.0, 10.5, 11.0, 11.5, 12.0]
    assert bins[0].mean == pytest.approx(0.1)
    assert np.isnan(bins[1].mean)


def stats(mean: float, p99: float, goodput: float) -> Stats:
    return Stats(100, 10.0, mean, mean, p99, goodput, 0.9, 0, 0, 0)


def test_success_needs_every_condition() -> None:
    good = {"incumbent": stats(1.0, 5.0, 300.0), "steady": stats(0.03, 0.1, 480.0)}
    assert all(c.ok for c in verdict(good, 5, 0, {"update_rejected": 0}))
    worse = {**good, "steady": stats(0.03, 6.0, 480.0)}
    for args in (
        (worse, 5, 0, {}),
        (good, 0, 0, {}),
        (good, 5, 1, {}),
        (good, 5, 0, {"update_rejected": 1}),
    ):
        assert [c.ok for c in verdict(*args)].count(False) == 1
