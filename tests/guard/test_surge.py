"""A demand that grows in leaps draws weights toward the shares of the capacity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.guard.surge import Surge, draw
from eigenmesh.mesh import Cut, GuardPolicy, Plan

POLICY = GuardPolicy(surge=1.5)
PLAN = Plan({"r": {"a": 0.9, "b": 0.1}}, {})
SHARES = {"r": {"a": 0.5, "b": 0.5}}


def test_a_steady_demand_leaves_the_plan_alone() -> None:
    surge = Surge()
    for demand in (100.0, 110.0, 90.0, 120.0):
        growth = surge.update({"r": demand})
        assert draw(PLAN, SHARES, growth, POLICY) == (PLAN, ())


def test_a_leap_draws_and_what_stays_becomes_usual() -> None:
    surge = Surge()
    surge.update({"r": 100.0})
    drawn, cuts = draw(PLAN, SHARES, surge.update({"r": 300.0}), POLICY)
    assert drawn.weights == {"r": {"a": pytest.approx(0.5), "b": pytest.approx(0.5)}}
    assert cuts == (Cut("surge", "r", 3.0, 1.5),)
    windows = 0
    while draw(PLAN, SHARES, surge.update({"r": 300.0}), POLICY)[1]:
        windows += 1
    assert 5 < windows < 40


def test_who_has_no_usual_demand_does_not_surge() -> None:
    surge = Surge()
    assert surge.update({"r": 0.0}) == {"r": 1.0}
    assert surge.update({"r": 50.0}) == {"r": 1.0}


@given(grown=st.floats(0.0, 100.0), a=st.floats(0.0, 1.0), share=st.floats(0.0, 1.0))
def test_a_drawn_weight_lies_between_the_plan_and_the_share(
    grown: float, a: float, share: float
) -> None:
    plan = Plan({"r": {"a": a, "b": 1.0 - a}}, {})
    drawn, cuts = draw(plan, {"r": {"a": share, "b": 1.0 - share}}, {"r": grown}, POLICY)
    assert min(a, share) - 1e-12 <= drawn.weights["r"]["a"] <= max(a, share) + 1e-12
    assert bool(cuts) == (grown > POLICY.surge)
