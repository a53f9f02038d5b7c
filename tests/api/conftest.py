from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eigenmesh.api.client import MeshClient

from .stage import Stage, serving


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with serving(tmp_path) as stage:
        yield stage


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[MeshClient]:
    async with stage.client() as client:
        yield client
