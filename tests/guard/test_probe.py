"""Probes stay within their budget, the bounds and the largest step, and are taken back."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.guard import Prober
from eigenmesh.mesh import (
    Bounds,
    Cluster,
    CurveEstimate,
    GuardPolicy,
    LatencyCurve,
    MeshError,
    Plan,
    ProbePolicy,
    Route,
    Topology,
)

TOPOLOGY = Topology(tuple(Cluster(n) for n in "abc"), (Route("r", ("a", "b", "c")),))
PROBE = ProbePolicy(rise=0.25, doubt=0.3, seconds=10.0, share=0.2, max_cost=0.05)
PLAN = Plan({"r": {"a": 0.2, "b": 0.3, "c": 0.5}}, {})


def curves(a: float = 0.05, b: float = 0.05, c: float = 0.05) -> dict[str, CurveEstimate]:
    curve = LatencyCurve(0.02, 100.0)
    return {
        name: CurveEstimate(curve, 0.02, error, 40)
        for name, error in zip("abc", (a, b, c), strict=True)
    }


def prober(probe: ProbePolicy = PROBE, **guard: object) -> Prober:
    return Prober(TOPOLOGY, GuardPolicy(probe=probe, **guard))  # type: ignore[arg-type]


def free(_: Plan) -> float:
    return 1.0


def dear(plan: Plan) -> float:
    return 1.0 if plan == PLAN else 1.06


def test_the_most_doubtful_capacity_is_probed() -> None:
    probe = prober().begin(PLAN, curves(a=0.4, b=0.7), free, 0.0)
    assert probe is not None
    assert probe.cluster == "b"
    assert probe.plan.weights["r"] == pytest.approx(
        {"a": 0.2 * 0.625 / 0.7, "b": 0.375, "c": 0.5 * 0.625 / 0.7}
    )


@pytest.mark.parametrize(
    ("one", "known", "objective"),
    [
        (prober(ProbePolicy()), curves(b=0.9), free),  # none by default
        (prober(), curves(b=0.3), free),  # known well enough
        (prober(), {}, free),  # nothing is known: that is no doubt about a capacity
        (prober(), curves(b=0.9), dear),
        (prober(bounds=Bounds(0.2, 0.5), max_step=0.001), curves(c=0.9), free),  # no room
    ],
)
def test_no_probe(one: Prober, known: Mapping[str, CurveEstimate], objective: object) -> None:
    assert one.begin(PLAN, known, objective, 0.0) is None  # type: ignore[arg-type]


def test_a_probe_is_taken_back_after_its_time() -> None:
    one = prober()
    probe = one.begin(PLAN, curves(b=0.7), free, 100.0)
    assert probe is not None
    assert one.end(probe.plan, free, 109.0) is None
    assert one.end(probe.plan, free, 110.0) == "the probe of b is over"
    assert one.current is probe, "until its base is in force"
    assert one.end(PLAN, free, 112.0) is None
    assert one.current is None


def test_and_at_once_when_it_turns_out_dear() -> None:
    one = prober()
    probe = one.begin(PLAN, curves(b=0.7), free, 100.0)
    assert probe is not None
    why = one.end(probe.plan, dear, 102.0)
    assert why is not None
    assert "costs 6.0%" in why


def test_a_probe_that_is_no_longer_in_force_is_forgotten() -> None:
    one = prober()
    assert one.begin(PLAN, curves(b=0.7), free, 100.0) is not None
    other = Plan({"r": {"a": 0.3, "b": 0.3, "c": 0.4}}, {})
    assert one.end(other, free, 120.0) is None
    assert one.current is None


def test_probes_come_in_turn_and_within_their_share_of_the_time() -> None:
    one, began = prober(), []
    in_force = PLAN
    for second in range(0, 200, 2):
        if one.end(in_force, free, second) is not None:
            in_force = PLAN
            one.end(in_force, free, second)
        elif one.current is None and (
            probe := one.begin(in_force, curves(a=0.5, b=0.7), free, second)
        ):
            began.append((second, probe.cluster))
            in_force = probe.plan
    assert began == [(0, "b"), (50, "a"), (100, "b"), (150, "a")]


@given(
    st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3),
    st.floats(0.01, 1.0),
    st.floats(0.01, 0.3),
    st.floats(0.4, 0.9),
)
def test_bounds_and_step_hold(raw: list[float], rise: float, step: float, high: float) -> None:
    guard = GuardPolicy(
        bounds=Bounds(0.02, high), max_step=step, probe=ProbePolicy(rise=rise, share=1.0)
    )
    total = sum(raw)
    plan = Plan({"r": {n: x / total for n, x in zip("abc", raw, strict=True)}}, {})
    if max(plan.weights["r"].values()) > high or min(plan.weights["r"].values()) < 0.02:
        return
    probe = Prober(TOPOLOGY, guard).begin(plan, curves(0.9, 0.8, 0.7), free, 0.0)
    if probe is None:
        return
    before, after = plan.weights["r"], probe.plan.weights["r"]
    assert sum(after.values()) == pytest.approx(1.0)
    for name in "abc":
        assert 0.02 - 1e-9 <= after[name] <= high + 1e-9
        assert abs(after[name] - before[name]) <= step + 1e-9
    assert after[probe.cluster] > before[probe.cluster]


@pytest.mark.parametrize("wrong", [{"rise": -0.1}, {"seconds": 0.0}, {"share": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(MeshError, match=rf"probe\.{next(iter(wrong))}"):
        ProbePolicy(**wrong)
