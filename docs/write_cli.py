"""Writes docs/cli.md from the commands' own help: `make docs-cli`."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import fields
from inspect import cleandoc
from pathlib import Path
from typing import Any

import typer

from eigenmesh.cli.ctl.session import Session
from eigenmesh.cli.main import app

PAGE = Path(__file__).parent / "cli.md"
SHARED = {field.name for field in fields(Session)}


def page() -> str:
    root: Any = typer.main.get_command(app)
    return "\n".join(_lines(root)) + "\n"


def _lines(root: Any) -> Iterator[str]:
    yield from ("# The command line", "", "<!-- Written by `make docs-cli`. -->", "")
    yield from (cleandoc(root.help), "")
    yield from (
        "TAB completes commands, options and, from the Eigenmesh that runs, names of routes and",
        "clusters and numbers of decisions, after `eigenmesh --install-completion`.",
        "",
    )
    groups = []
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            groups.append((name, command))
        else:
            yield from _command("##", f"eigenmesh {name}", command, frozenset())
    for name, group in groups:
        yield from (f"## eigenmesh {name}", "", cleandoc(group.help), "")
        some = next(iter(group.commands.values()))
        if shared := [p for p in some.params if p.name in SHARED]:
            yield from ("Every command has these options:", "")
            yield from _table(shared, some)
        for of, command in group.commands.items():
            yield from _command("###", f"eigenmesh {name} {of}", command, SHARED)


def _command(level: str, name: str, command: Any, known: Set[str]) -> Iterator[str]:
    yield from (f"{level} {name}", "", cleandoc(command.help), "")
    usage = " ".join(_arguments(command))
    yield from ("```console", f"$ {name} {usage}", "```", "")
    yield from _table([p for p in command.params if p.name not in known], command)


def _arguments(command: Any) -> Iterator[str]:
    yield "[OPTIONS]"
    for one in command.params:
        if one.param_type_name == "argument":
            yield _name(one) if one.required else f"[{_name(one)}]"


def _name(argument: Any) -> str:
    name: str = argument.metavar or argument.name.upper()
    return name.strip("[]")


def _table(parameters: list[Any], command: Any) -> Iterator[str]:
    if not parameters:
        return
    context = typer.Context(command)
    yield from ("| | |", "|---|---|")
    for one in parameters:
        option = one.param_type_name == "option"
        name = ", ".join(f"`{opt}`" for opt in one.opts) if option else f"`{_name(one)}`"
        notes = [one.help or ""]
        if one.envvar:
            notes.append(f"Or the environment's `{one.envvar}`.")
        default = one.get_default(context)
        if one.show_default and default not in (None, False, "", ()):
            notes.append(f"Default: `{getattr(default, 'value', default)}`.")
        yield f"| {name} | {' '.join(notes).strip()} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
