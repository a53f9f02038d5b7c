"""Whether a plan does what was promised: realised against predicted, by a test.

Plans are compared through one number a window, x = ln(realised / predicted), both in seconds per
request. Before a departure from the last good plan, x tells how far the model is off for that
plan; after it, predictions are still those of the *good* plan, by the curves known at the
departure and at the demand of the window: so x rises by ln(1 + d) if the new plan is a fraction d
worse than the good one would have been. Demand that comes and goes cancels.

The rise is judged by Welch's t test (B. Welch, Biometrika 34, 1947) against a tolerance, each
window anew; the error probability is shared out among the windows (Bonferroni), so that looking
often does not condemn by chance. Clearly above: worse. Clearly below: accepted. Neither in the time
given: inconclusive, which is a state of its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from statistics import fmean, variance

from scipy.stats import t as student

from eigenmesh.mesh import Check, Plan, Verdict, VerifyPolicy

_BEFORE = 30
"""Windows under the good plan that are remembered."""
_FEWEST = 3
"""Of them, below which nothing is known of how far the model is off."""
_LEAST_SPREAD = 0.01
"""Standard deviation of x below which none is believed: windows are not that steady."""


class Verifier:
    """`good` is the last plan that was accepted; departures from it are on trial.

    Predictions are the caller's: by the curves of now or, while a plan is on trial, by those of the
    departure.
    """

    def __init__(self, good: Plan, policy: VerifyPolicy) -> None:
        self.good = good
        self._policy = policy
        self._before: deque[float] = deque(maxlen=_BEFORE)
        self._since: list[float] = []
        self._failed = 0
        self.on_trial = False

    def depart(self) -> None:
        """A plan other than the good one is in force from now on."""
        if not self.on_trial:
            self.on_trial, self._since, self._failed = True, [], 0

    def settle(self, plan: Plan) -> None:
        """This is the good plan from now on, whatever was thought of it."""
        if plan != self.good:
            # What the model is off by under another plan is not known yet.
            self._before.clear()
        self.good, self.on_trial, self._since, self._failed = plan, False, [], 0

    def update(self, plan: Plan, realised: float, expected: float) -> Check:
        """One more window under `plan`; realised: seconds per request in it; expected: what the
        good plan was predicted to take in it."""
        if not (realised > 0 and expected > 0 and math.isfinite(realised + expected)):
            return Check(Verdict.WAITING, len(self._since), failed=self._failed)
        x = math.log(realised / expected)
        if not self.on_trial:
            self._before.append(x)
            return Check(Verdict.ACCEPTED, 0)
        self._since.append(x)
        check = self._judge()
        if check.verdict in (Verdict.ACCEPTED, Verdict.INCONCLUSIVE):
            self.settle(plan)
        return check

    def _judge(self) -> Check:
        policy, before, since = self._policy, self._before, self._since
        n, m = len(since), len(before)
        known = m >= _FEWEST
        # Where nothing is known of how far the model is off, it is taken at its word, with a doubt.
        usual = fmean(before) if known else 0.0
        of_before = _spread(before) / m if known else policy.doubt**2
        rise = fmean(since) - usual
        self._failed = self._failed + 1 if since[-1] > usual else 0
        if n < 2:
            return Check(Verdict.WAITING, n, failed=self._failed)
        of_since = _spread(since) / n
        error = math.sqrt(of_since + of_before)
        parts = of_since**2 / (n - 1) + (of_before**2 / (m - 1) if known else 0.0)
        freedom = (of_since + of_before) ** 2 / parts
        change = math.expm1(rise)
        verdict = Verdict.WAITING
        if n >= policy.windows:
            looks = policy.patience - policy.windows + 1
            critical = float(student.ppf(1.0 - policy.doubtful / looks, freedom))
            above = (rise - math.log1p(policy.tolerance)) / error
            if above > critical:
                verdict = Verdict.WORSE
            elif above < -critical:
                verdict = Verdict.ACCEPTED
            elif n >= policy.patience:
                verdict = Verdict.INCONCLUSIVE
        return Check(verdict, n, change, error * math.exp(rise), self._failed)


def _spread(values: Collection[float]) -> float:
    return max(variance(values), _LEAST_SPREAD**2)
