"""Quantiles of latency as a function of load."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eigenmesh.mesh import CurveEstimate, LatencyCurve
from eigenmesh.telemetry.estimator import Estimator
from eigenmesh.telemetry.tails import Tails

from .referee import MM2, PS, Scene, long_run

CURVE = LatencyCurve(0.01, 200.0)


def test_without_measured_quantiles_the_curve_speaks_alone() -> None:
    assert Tails(25.0).factors == {}
    assert CurveEstimate(CURVE, 0.1, 0.1, 5).quantile(50.0, 0.9) == CURVE.quantile(50.0, 0.9)


def test_a_tail_twice_as_long_is_learned_whatever_the_load() -> None:
    tails = Tails(25.0)
    for load in (20.0, 150.0, 90.0):
        tails.learn({0.99: 2.0 * CURVE.quantile(load, 0.99)}, load, CURVE)
    assert tails.factors[0.99] == pytest.approx(2.0)


def test_a_backlog_says_nothing_of_the_settled_tail() -> None:
    tails = Tails(25.0)
    tails.learn({0.99: 5.0}, 199.0, CURVE)
    assert tails.factors == {}


def test_old_tails_are_forgotten() -> None:
    tails = Tails(5.0)
    for factor in (3.0,) * 30 + (1.0,) * 30:
        tails.learn({0.9: factor * CURVE.quantile(80.0, 0.9)}, 80.0, CURVE)
    assert tails.factors[0.9] == pytest.approx(1.0, abs=0.01)


def test_corrections_are_interpolated_between_quantiles_and_journaled() -> None:
    one = CurveEstimate(CURVE, 0.1, 0.1, 5, None, {0.9: 1.0, 0.99: 2.0})
    between = one.quantile(50.0, 0.97) / CURVE.quantile(50.0, 0.97)
    assert 1.3 < between < 1.6
    assert one.quantile(50.0, 0.999) == pytest.approx(2.0 * CURVE.quantile(50.0, 0.999))
    assert CurveEstimate.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize("scene", [MM2, PS], ids=lambda s: s.name)
def test_the_tail_is_predicted_for_other_loads(scene: Scene) -> None:
    """Sharing with service times of four times the variance has a tail of its own."""
    estimator, load = Estimator(), 0.5 * scene.capacity
    for observation in scene.run(1, load, 25, 2.0):
        estimates = estimator.update(observation)
    resumed = Estimator.from_dict(json.loads(json.dumps(estimator.to_dict())))
    assert resumed.estimates["q"].tails == estimates["q"].tails
    truth = float(np.quantile(long_run(scene, 0.3 * scene.capacity, 60_000), 0.99))
    assert estimates["q"].quantile(0.3 * scene.capacity, 0.99) == pytest.approx(truth, rel=0.25)
