"""What people ask of a running mesh, and how it bounds what is decided."""

from __future__ import annotations

import pytest

from eigenmesh.guard import admit
from eigenmesh.guard.admit import step
from eigenmesh.guard.controls import (
    Controls,
    Mode,
    check_bounds,
    effective,
    hear,
    known_part,
    part,
    unknown,
)
from eigenmesh.mesh import Bounds, BreakerLimits, Cluster, GuardPolicy, MeshError, Plan, Route
from eigenmesh.mesh import Topology as Mesh

MESH = Mesh(tuple(Cluster(n) for n in "abc"), (Route("r", ("a", "b")), Route("s", ("b", "c"))))
NOW = Plan(
    {"r": {"a": 0.5, "b": 0.5}, "s": {"b": 0.5, "c": 0.5}},
    {"a": BreakerLimits.around(100), "b": BreakerLimits.around(100)},
)
WANTED = Plan(
    {"r": {"a": 0.9, "b": 0.1}, "s": {"b": 0.1, "c": 0.9}},
    {"a": BreakerLimits.around(50), "b": BreakerLimits.around(50)},
)
OPEN = GuardPolicy(Bounds(0.0, 1.0), max_step=1.0, deadband=0.0, probe_floor=0.0, min_gain=-10.0)


def pushed(controls: Controls, policy: GuardPolicy = OPEN) -> Plan:
    guarded = admit(MESH, NOW, WANTED, effective(policy, controls, NOW), lambda plan: 1.0)
    return guarded.plan


def test_without_controls_the_whole_plan_passes() -> None:
    assert pushed(Controls(Mode.AUTO)) == WANTED


def test_a_pinned_weight_alone_stands_between_a_plan_and_envoy() -> None:
    plan = pushed(Controls(Mode.AUTO, pins={"r": {"a": 0.6}}))
    assert plan.weights["r"] == {"a": pytest.approx(0.6), "b": pytest.approx(0.4)}
    assert plan.weights["s"] == WANTED.weights["s"]


def test_a_canary_alone_stands_between_a_plan_and_envoy_until_it_is_promoted() -> None:
    policy = GuardPolicy(**{**OPEN.__dict__, "canaries": {("s", "c"): 0.05}})
    before = Plan({**NOW.weights, "s": {"b": 0.95, "c": 0.05}}, NOW.limits)

    def under(controls: Controls) -> float:
        allowed = effective(policy, controls, before)
        return admit(MESH, before, WANTED, allowed, lambda plan: 1.0).plan.weights["s"]["c"]

    assert under(Controls(Mode.AUTO)) == pytest.approx(0.05)
    assert under(Controls(Mode.AUTO, promoted=frozenset({("s", "c")}))) == pytest.approx(0.9)


def test_a_route_that_is_only_observed_keeps_its_weights() -> None:
    plan = pushed(Controls(Mode.AUTO, routes={"r": Mode.OBSERVE}))
    assert plan.weights["r"] == NOW.weights["r"]
    assert plan.weights["s"] == WANTED.weights["s"]


def test_the_stricter_mode_holds() -> None:
    controls = Controls(Mode.APPROVE, routes={"r": Mode.AUTO, "s": Mode.OBSERVE})
    assert controls.mode_of_route("r") is Mode.APPROVE
    assert controls.mode_of_route("s") is Mode.OBSERVE
    assert controls.mode_of_route("t") is Mode.APPROVE


def test_a_plan_is_taken_apart_by_mode() -> None:
    controls = Controls(Mode.AUTO, {"r": Mode.APPROVE}, {"b": Mode.OBSERVE})
    auto = part(WANTED, NOW, controls, Mode.AUTO)
    assert auto.weights == {"r": NOW.weights["r"], "s": WANTED.weights["s"]}
    assert auto.limits == {"a": WANTED.limits["a"], "b": NOW.limits["b"]}
    waiting = part(WANTED, NOW, controls, Mode.APPROVE)
    assert waiting.weights == {"r": WANTED.weights["r"], "s": NOW.weights["s"]}
    assert waiting.limits == NOW.limits


def test_a_setting_that_was_changed_live_is_the_guards() -> None:
    policy = effective(OPEN, Controls(overrides={"max_step": 0.05}), NOW)
    assert policy.max_step == 0.05


def test_what_stops_says_so() -> None:
    assert Controls(Mode.AUTO).stops(0.0) is None
    assert "deploy" in str(Controls(Mode.AUTO, paused="deploy").stops(0.0))
    assert Controls(Mode.AUTO, frozen_until=60.0).stops(30.0) == "frozen for another 30 s"
    assert Controls(Mode.AUTO, frozen_until=60.0).stops(61.0) is None
    assert "ctl resume" in str(Controls(Mode.AUTO, held="3 roll-backs").stops(0.0))


def test_controls_survive_the_journal() -> None:
    controls = Controls(
        Mode.APPROVE,
        {"r": Mode.OBSERVE},
        {"a": Mode.AUTO},
        "why",
        12.5,
        "held",
        {"r": {"a": 0.6}},
        frozenset({("s", "c")}),
        {"max_step": 0.2},
        NOW,
        "asked",
        {"": "auto"},
    )
    assert Controls.from_dict(controls.to_dict()) == controls


def test_names_that_the_mesh_does_not_have_are_found() -> None:
    controls = Controls(routes={"x": Mode.AUTO}, pins={"r": {"c": 0.1}, "y": {"a": 1.0}})
    assert list(unknown(MESH, controls)) == [("routes", "x"), ("pins.r", "c"), ("pins", "y")]


def test_pins_that_no_split_can_meet_are_refused() -> None:
    with pytest.raises(MeshError, match=r"route r: '1\.2': .*lower a pin"):
        check_bounds(MESH, effective(OPEN, Controls(pins={"r": {"a": 0.6, "b": 0.6}}), NOW))


def test_going_back_takes_steps_and_arrives() -> None:
    policy = GuardPolicy(max_step=0.15, deadband=0.05)
    plan, steps = NOW, 0
    while plan != WANTED and steps < 10:
        after = step(plan, WANTED, policy)
        assert plan.distance(after) <= 0.15 + 1e-9
        plan, steps = after, steps + 1
    assert plan == WANTED
    assert steps == 3


def test_what_the_settings_say_of_modes_counts_when_it_is_new() -> None:
    heard = hear(Controls(), {"": "approve", "route r": "observe", "cluster a": "auto"})
    assert (heard.mode, heard.routes, heard.clusters) == (Mode.APPROVE, {"r": Mode.OBSERVE}, {})
    asked = Controls(**{**heard.__dict__, "mode": Mode.AUTO, "routes": {}})
    assert hear(asked, heard.told) == asked, "a restart with the same settings changes nothing"
    again = hear(asked, {"": "approve", "cluster a": "approve"})
    assert again.mode is Mode.AUTO, "the document says what it said before"
    assert again.clusters == {"a": Mode.APPROVE}
    assert hear(asked, {"": "observe"}).mode is Mode.OBSERVE


def test_what_the_mesh_does_not_have_any_more_is_forgotten() -> None:
    controls = Controls(
        routes={"r": Mode.OBSERVE, "x": Mode.OBSERVE},
        clusters={"y": Mode.APPROVE},
        pins={"r": {"a": 0.6}, "s": {"a": 0.1}},
    )
    left = known_part(controls, MESH)
    assert (left.routes, left.clusters, left.pins) == ({"r": Mode.OBSERVE}, {}, {"r": {"a": 0.6}})
    assert not list(unknown(MESH, left))


def test_going_back_leads_to_limits_that_envoy_had_of_its_own() -> None:
    limited = Plan(NOW.weights, {"a": BreakerLimits.around(100)})
    own = Plan(NOW.weights, {})
    policy, plan, seen = GuardPolicy(max_limit_step=2.0), limited, [100]
    while plan != own and len(seen) < 10:
        plan = step(plan, own, policy)
        seen.append(plan.limits["a"].max_requests if "a" in plan.limits else 1024)
    assert seen == [100, 200, 400, 800, 1024]
