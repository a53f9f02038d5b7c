"""When nothing may be pushed."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from eigenmesh.guard.calendar import check_window, frozen, stops
from eigenmesh.mesh import FreezeWindow, GuardPolicy, MeshError

WEEKEND = FreezeWindow("0 22 * * 5", 60 * 3600.0, "Europe/Rome")


def at(text: str, zone: str = "Europe/Rome") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("time", "left"),
    [
        ("2026-11-20T21:59:59", 0.0),
        ("2026-11-20T22:00:00", 60 * 3600.0),
        ("2026-11-20T22:00:30", 60 * 3600.0 - 30),
        ("2026-11-22T12:00:00", 22 * 3600.0),
        ("2026-11-23T09:59:59", 1.0),
        ("2026-11-23T10:00:00", 0.0),
    ],
)
def test_a_window_opens_and_closes_in_its_own_time_zone(time: str, left: float) -> None:
    assert frozen(WEEKEND, at(time)) == pytest.approx(left)


def test_a_freeze_window_alone_stops_a_push() -> None:
    policy = GuardPolicy(freeze=(WEEKEND,))
    assert "freeze window '0 22 * * 5'" in str(stops(policy, [], at("2026-11-21T12:00:00")))
    assert stops(policy, [], at("2026-11-24T12:00:00")) is None


def test_a_plan_bakes() -> None:
    policy = GuardPolicy(bake=60.0)
    assert stops(policy, [1000.0], 1030.0) == "the last plan bakes for another 30 s"
    assert stops(policy, [1000.0], 1060.0) is None


def test_changes_an_hour_are_counted() -> None:
    policy = GuardPolicy(changes_per_hour=2)
    assert stops(policy, [0.0, 1000.0], 1100.0) == (
        "2 changes in the last hour, as many as changes_per_hour allows"
    )
    assert stops(policy, [0.0, 1000.0], 3601.0) is None


@pytest.mark.parametrize(
    ("window", "field"),
    [
        (FreezeWindow("0 22 * *", 60.0), "freeze.cron"),
        (FreezeWindow("0 22 * * 5", 60.0, "Europe/Atlantis"), "freeze.zone"),
        (FreezeWindow("0 22 * * 5", 0.0), "freeze.seconds"),
    ],
)
def test_a_window_that_cannot_be_told_is_refused(window: FreezeWindow, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        check_window(window)
    assert caught.value.field == field
