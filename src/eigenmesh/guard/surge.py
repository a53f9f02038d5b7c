"""A demand that grows in leaps: weights are drawn toward the clusters' shares of the capacity.

Curves are known where there was traffic. Under a demand far above all that was seen, the best plan
by the curves may load most what is known least; shares of the capacity are worse on a quiet day
and hardly ever bad.
"""

from __future__ import annotations

from collections.abc import Mapping

from eigenmesh.mesh import Cut, GuardPolicy, Plan

KEEP = 0.95
"""How much of the usual demand is what it was one window before."""


class Surge:
    """The usual demand of every route (requests/s), and how far above it they are.

    What is far above is taken in as slowly as what is not: a surge that stays becomes usual in a
    minute or two, by which time the curves know it.
    """

    def __init__(self) -> None:
        self._usual: dict[str, float] = {}

    def update(self, demands: Mapping[str, float]) -> dict[str, float]:
        """Route -> its demand, relative to the usual one before this window."""
        growth = {}
        for route, demand in demands.items():
            usual = self._usual.get(route, demand)
            growth[route] = demand / usual if usual > 0.0 else 1.0
            self._usual[route] = KEEP * usual + (1.0 - KEEP) * demand
        return growth


def draw(
    plan: Plan,
    shares: Mapping[str, Mapping[str, float]],
    growth: Mapping[str, float],
    policy: GuardPolicy,
) -> tuple[Plan, tuple[Cut, ...]]:
    """The plan with the weights of routes that surge between what it says and these shares (route
    -> cluster -> fraction): as it says at `policy.surge`, wholly the shares at twice that."""
    weights, cuts = dict(plan.weights), []
    for route, grown in growth.items():
        if grown <= policy.surge or route not in weights:
            continue
        part = min(1.0, grown / policy.surge - 1.0)
        split, aim = weights[route], shares[route]
        weights[route] = {name: (1.0 - part) * w + part * aim[name] for name, w in split.items()}
        cuts.append(Cut("surge", route, grown, policy.surge))
    return Plan(weights, plan.limits), tuple(cuts)
