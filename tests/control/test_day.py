"""Simulated hours of ticks in which nothing grows and nothing drifts; `bench/day.py` is a day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from bench.day import drifting, growing, live, quiet
from eigenmesh.control.journal import Retention
from eigenmesh.mesh import GuardPolicy

KEEP = Retention(megabytes=1)


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    quiet()
    yield
    structlog.reset_defaults()


async def test_under_a_constant_demand_nothing_grows_and_no_weight_drifts(tmp_path: Path) -> None:
    hours = await live(tmp_path, 2.0, period=0.0, step=0.5, keep=KEEP)
    assert growing(hours, KEEP) == []
    assert drifting(hours, GuardPolicy().deadband) == []


async def test_under_a_demand_that_swings_nothing_grows(tmp_path: Path) -> None:
    hours = await live(tmp_path, 0.75, period=1800.0, step=0.25, keep=KEEP)
    assert growing(hours, KEEP) == []
