"""A plan is held to its promise: accepted, rolled back or neither, by what windows show."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.guard.verify import Verifier
from eigenmesh.mesh import Check, MeshError, Plan, Verdict, VerifyPolicy

GOOD = Plan({"r": {"a": 0.5, "b": 0.5}}, {})
NEW = Plan({"r": {"a": 0.7, "b": 0.3}}, {})
POLICY = VerifyPolicy()


def on_trial(
    change: float, seed: int, *, noise: float = 0.03, model_off: float = 0.4
) -> tuple[Verifier, list[Check]]:
    """A verifier whose model is off by `model_off`, and what it says while the new plan is worse
    by `change` than the good one; predictions follow a demand that comes and goes."""
    rng = random.Random(seed)
    verifier = Verifier(GOOD, POLICY)

    def window(plan: Plan, factor: float) -> Check:
        level = 0.02 * rng.uniform(0.5, 2.0)
        realised = level * (1.0 + model_off) * factor * rng.lognormvariate(0.0, noise)
        return verifier.update(plan, realised, level)

    for _ in range(10):
        assert window(GOOD, 1.0).verdict is Verdict.ACCEPTED
    verifier.depart()
    checks: list[Check] = []
    while verifier.on_trial and len(checks) < POLICY.patience:
        checks.append(window(NEW, 1.0 + change))
        if checks[-1].verdict is Verdict.WORSE:
            break
    return verifier, checks


@given(st.integers(0, 10_000))
def test_a_plan_that_is_much_worse_is_found_out_in_a_few_windows(seed: int) -> None:
    verifier, checks = on_trial(0.5, seed)
    assert checks[-1].verdict is Verdict.WORSE
    assert len(checks) <= 6
    assert verifier.good == GOOD
    assert verifier.on_trial


@given(st.integers(0, 10_000))
def test_a_better_plan_is_accepted_and_is_the_good_one_then(seed: int) -> None:
    verifier, checks = on_trial(-0.2, seed)
    assert checks[-1].verdict is Verdict.ACCEPTED
    assert verifier.good == NEW
    assert not verifier.on_trial


def test_no_worse_plans_are_rolled_back_no_oftener_than_said() -> None:
    wrong = sum(
        on_trial(POLICY.tolerance, seed)[1][-1].verdict is Verdict.WORSE for seed in range(1000)
    )
    # 1% was promised; three standard errors of a thousand trials more.
    assert wrong <= 20


def test_what_noise_hides_is_inconclusive_and_neither_good_nor_bad() -> None:
    verdicts = [on_trial(0.06, seed, noise=0.5)[1][-1].verdict for seed in range(50)]
    assert verdicts.count(Verdict.INCONCLUSIVE) > 40
    assert Verdict.WORSE not in verdicts


def test_without_windows_of_the_good_plan_the_model_is_taken_at_its_word_with_a_margin() -> None:
    verifier = Verifier(GOOD, POLICY)
    verifier.depart()
    checks = [verifier.update(NEW, 0.022, 0.02) for _ in range(POLICY.patience)]
    assert checks[-1].verdict is Verdict.INCONCLUSIVE
    verifier = Verifier(GOOD, POLICY)
    verifier.depart()
    verdicts = [verifier.update(NEW, 0.2, 0.02).verdict for _ in range(12)]
    assert Verdict.WORSE in verdicts


def test_failed_windows_in_a_row_are_counted() -> None:
    verifier = Verifier(GOOD, POLICY)
    for _ in range(5):
        verifier.update(GOOD, 0.02, 0.02)
    verifier.depart()
    failed = [verifier.update(NEW, x, 0.02).failed for x in (0.021, 0.0205, 0.019)]
    assert failed == [1, 2, 0]


@pytest.mark.parametrize("realised", [0.0, float("nan"), float("inf")])
def test_a_window_without_a_figure_says_nothing(realised: float) -> None:
    verifier = Verifier(GOOD, POLICY)
    verifier.depart()
    assert verifier.update(NEW, realised, 0.02) == Check(Verdict.WAITING, 0)


def test_settling_ends_the_trial() -> None:
    verifier = Verifier(GOOD, POLICY)
    verifier.depart()
    verifier.settle(NEW)
    assert verifier.good == NEW
    assert not verifier.on_trial


def test_a_trial_of_one_window_is_refused() -> None:
    with pytest.raises(MeshError, match=r"verify\.windows: 1: use 2 or more"):
        VerifyPolicy(windows=1)
