"""What the commands say of themselves, and docs/cli.md, which is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from docs.write_cli import PAGE, page
from eigenmesh.cli.main import app
from tests.test_architecture import modules_after


def commands(group: Any, *names: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*names, name)
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)


COMMANDS = [*commands(typer.main.get_command(app))]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs-cli`"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_of_that_command(command: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    _, _, example = done.stdout.partition("Example: ")
    assert f"eigenmesh {' '.join(command)}" in example
    assert "\x1b" not in done.stdout


def test_exit_statuses_are_in_the_help() -> None:
    lines = CliRunner().invoke(app, ["ctl", "--help"]).stdout
    for status in range(5):
        assert f" {status}: " in lines


def test_help_starts_at_once() -> None:
    """Nothing slow is imported before a command runs."""
    loaded = {name.split(".")[0] for name in modules_after("import eigenmesh.cli.main")}
    assert not loaded & {"grpc", "google", "pennylane", "numpy", "scipy", "pydantic", "yaml"}
