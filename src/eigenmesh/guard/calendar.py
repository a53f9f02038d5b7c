"""When nothing is pushed: freeze windows, the time that a plan bakes, pushes an hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from eigenmesh.mesh import FreezeWindow, GuardPolicy, MeshError

HOUR = 3600.0


def check_window(window: FreezeWindow) -> None:
    """Raises MeshError if its times cannot be told."""
    try:
        ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise MeshError("freeze.zone", window.zone, "name a time zone, as Europe/Rome") from error
    try:
        CronSim(window.cron, datetime.now(UTC))
    except CronSimError as error:
        remedy = "give five fields: minute hour day month weekday, as 0 22 * * 5"
        raise MeshError("freeze.cron", window.cron, remedy) from error
    if not window.seconds > 0:
        raise MeshError("freeze.seconds", window.seconds, "use more than 0")


def frozen(window: FreezeWindow, now: float) -> float:
    """Seconds for which the window is still open at `now` (unix seconds); 0 if it is not."""
    here = datetime.fromtimestamp(now, ZoneInfo(window.zone))
    # The reverse iteration leaves its own start out.
    began = next(CronSim(window.cron, datetime.fromtimestamp(now + 60, here.tzinfo), reverse=True))
    if began.timestamp() > now:
        began = next(CronSim(window.cron, here, reverse=True))
    return max(0.0, began.timestamp() + window.seconds - now)


def stops(policy: GuardPolicy, pushes: Sequence[float], now: float) -> str | None:
    """Why nothing may be pushed at `now`. pushes: times of the last ones (unix seconds)."""
    for window in policy.freeze:
        if (left := frozen(window, now)) > 0:
            return f"freeze window {window.cron!r} for another {left:.0f} s"
    # Times to come are of a clock that was set back before a restart.
    past = [pushed for pushed in pushes if pushed <= now]
    if past and (left := max(past) + policy.bake - now) > 0:
        return f"the last plan bakes for another {left:.0f} s"
    recent = sum(now - HOUR < pushed for pushed in past)
    if policy.changes_per_hour and recent >= policy.changes_per_hour:
        return f"{recent} changes in the last hour, as many as changes_per_hour allows"
    return None
