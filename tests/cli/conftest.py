"""What the tests of `ctl` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from eigenmesh.cli.main import app
from tests.cli.api import Api, serving


@pytest.fixture
def api() -> Iterator[Api]:
    with serving() as served:
        yield served


@pytest.fixture
def ctl(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`eigenmesh ctl ...` in this process, with standard output in a pipe."""
    monkeypatch.setenv("EIGENMESH_ADDRESS", api.address)
    return lambda *args: CliRunner().invoke(app, ["ctl", *map(str, args)])
