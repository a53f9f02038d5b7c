"""The largest demand of late, and the mean."""

from __future__ import annotations

import pytest

from eigenmesh.guard.peaks import HALF, MEAN, Peaks


def test_a_peak_is_remembered_and_fades() -> None:
    peaks = Peaks()
    assert peaks.over({"r": 5.0}) == {"r": 5.0}
    peaks.update({"r": 100.0}, 0.0, 1e14)
    peaks.update({"r": 10.0}, HALF, 1e14)
    assert peaks.over({"r": 10.0}) == {"r": pytest.approx(50.0)}
    peaks.update({"r": 60.0}, HALF, 1e14)
    assert peaks.over({"r": 10.0, "s": 3.0}) == {"r": pytest.approx(60.0), "s": 3.0}
    assert peaks.over({"r": 70.0}) == {"r": 70.0}


def test_a_route_without_data_fades_and_a_clock_that_is_set_changes_nothing() -> None:
    peaks = Peaks()
    peaks.update({"r": 100.0}, 1000.0, 1e14)
    peaks.shift(5000.0)
    peaks.update({}, 6000.0, 1e14)
    assert peaks.over({"r": 0.0}) == {"r": pytest.approx(100.0)}
    peaks.update({}, 6000.0 + HALF, 1e14)
    assert peaks.over({"r": 0.0}) == {"r": pytest.approx(50.0)}


def test_what_may_be_chance_is_no_peak() -> None:
    peaks = Peaks()
    peaks.update({"r": 100.0}, 0.0, 1.0)
    assert peaks.over({"r": 10.0}) == {"r": pytest.approx(80.0)}
    peaks.update({"r": 3.0}, 0.0, 1.0)
    assert peaks.over({"r": 1.0})["r"] >= 1.0


def test_a_window_without_an_answer_is_no_peak() -> None:
    peaks = Peaks()
    peaks.update({"r": 100.0}, 0.0, 1e14)
    peaks.update({}, 1.0, 0.0)
    peaks.update({"r": 500.0}, 1.0, 0.0)
    assert peaks.over({"r": 0.0})["r"] == pytest.approx(100.0, rel=0.01)


def test_the_mean_is_of_the_last_minutes() -> None:
    peaks = Peaks()
    assert peaks.means({"r": 7.0}) == {"r": 7.0}
    for second in range(600):
        peaks.update({"r": 80.0 if second % 5 == 0 else 20.0}, float(second), 1.0)
    assert peaks.means({"r": 80.0}) == {"r": pytest.approx(32.0, abs=1.0)}
    peaks.update({"r": 132.0}, 599.0 + MEAN, 1.0)
    assert peaks.means({"r": 0.0})["r"] == pytest.approx(82.0, abs=1.0)
