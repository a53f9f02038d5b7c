"""Evidence for a change."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from eigenmesh.telemetry.change import LONGEST, ChangeDetector
from eigenmesh.telemetry.transient import Candidates
from eigenmesh.telemetry.window import Window, log_likelihood

T0, CAPACITY, LOAD = 0.02, 400.0, 250.0


def window(mean: float) -> Window:
    return Window(2.0, LOAD, LOAD, mean, round(LOAD * mean))


def expected(one: Window) -> float:
    """Log probability under the curve that is followed, exactly known."""
    return float(log_likelihood(Candidates(np.array([T0]), np.array([CAPACITY])), one)[0])


def evidence(means: list[float]) -> tuple[float, ChangeDetector]:
    detector = ChangeDetector(T0, CAPACITY)
    last = -math.inf
    for mean in means:
        last = detector.add(window(mean), expected(window(mean)))
    return last, detector


def test_what_was_predicted_is_evidence_against_a_change() -> None:
    assert evidence([0.0205] * 6)[0] < -1.0


def test_one_window_is_never_enough() -> None:
    assert evidence([1.0])[0] == -math.inf


@pytest.mark.parametrize("mean", [0.012, 0.03, 0.2])
def test_two_windows_of_something_else_are(mean: float) -> None:
    last, detector = evidence([0.0205] * 5 + [mean] * 2)
    assert last > 8.5
    assert detector.since() == 2


def test_old_windows_are_let_go() -> None:
    detector = evidence([0.03] * 20)[1]
    assert detector.since() <= LONGEST
    assert len(detector.to_list()) == LONGEST


def test_the_detector_survives_the_journal_and_moves_with_the_estimate() -> None:
    last, detector = evidence([0.0205] * 5 + [0.03])
    data = json.loads(json.dumps(detector.to_list()))
    resumed = ChangeDetector.from_list(T0, CAPACITY, data)
    one = window(0.03)
    assert resumed.add(one, expected(one)) == pytest.approx(detector.add(one, expected(one)))
    assert last < 8.5
    # Around 30 ms, 30 ms are no change.
    detector.follow(0.03, CAPACITY)
    calm = [detector.add(one, 0.0) for _ in range(3)][-1]
    fresh = ChangeDetector(T0, CAPACITY)
    assert calm > [fresh.add(one, 0.0) for _ in range(3)][-1]
