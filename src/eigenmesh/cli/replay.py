"""`eigenmesh replay`: past decisions, made anew under other settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from eigenmesh.control.replay import Replay, Side, Turn


class SolverName(StrEnum):
    CLASSICAL = "classical"
    VARIATIONAL = "variational"
    BEST = "best"


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


def replay(
    journal: Annotated[Path, typer.Argument(help="Journal of an Eigenmesh, which may run.")],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Settings file (YAML). Without it: default settings, and nothing is known of "
            "hosts, calls, costs and retries.",
        ),
    ] = None,
    solver: Annotated[SolverName | None, typer.Option(help="In place of the settings'.")] = None,
    decisions: Annotated[int, typer.Option(min=1, help="Newest decisions to make anew.")] = 200,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change of a setting; may be repeated."),
    ] = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="For people, or for programs.")
    ] = Output.TABLE,
) -> None:
    """Makes past decisions anew with other settings or solvers, and compares. Changes nothing.

    Each decision goes on from the plan of the one before it, as in mode auto without probes, pins,
    approvals and rollbacks. What was observed is what really ran: another plan would have been seen
    to do otherwise. Both plans are judged by the latency curves and the demand of the window that
    followed.

    Example: `eigenmesh replay eigenmesh.sqlite -c eigenmesh.yaml --set guard.max_step=0.3`
    """
    import os

    from rich.console import Console
    from rich.progress import Progress

    from eigenmesh.control.journal import Journal, JournalError
    from eigenmesh.control.replay import replay as play
    from eigenmesh.control.settings import SettingsError
    from eigenmesh.control.tuning import tuned
    from eigenmesh.mesh import MeshError

    os.nice(10)  # The Eigenmesh that steers may be on this machine.
    try:
        source = Journal.reading(journal)
        newest = source.page(1)
        latest = source.decision(newest[0].number) if newest else None
        if latest is None:
            _fail([f"journal: {journal}: it has no decisions; run Eigenmesh first"])
        wanted = [*(changes or []), *([f"solver={solver.value}"] if solver else [])]
        settings = tuned(config, wanted, latest.plan)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("decisions", total=None)
            found = play(
                source,
                settings,
                decisions,
                progress=lambda done, of: progress.update(task, completed=done, total=of),
            )
        source.close()
    except SettingsError as error:
        _fail(error.lines)
    except (JournalError, MeshError) as error:
        _fail([str(error)])
    if output is Output.JSON:
        import json

        typer.echo(json.dumps(as_dict(found), indent=1))
    else:
        show(found)


def as_dict(replay: Replay) -> dict[str, Any]:
    """JSON-ready; times in seconds."""
    return {
        "decisions": [_turn(turn) for turn in replay.turns],
        "skipped": dict(replay.skipped),
        "done": asdict(replay.done),
        "would": asdict(replay.would),
    }


def show(replay: Replay, console: Console | None = None) -> None:
    """Tables on standard output; colours are off when it is piped."""
    from rich.console import Console
    from rich.table import Table

    from eigenmesh.mesh import Action

    console = console or Console()
    moves = [
        turn
        for turn in replay.turns
        if turn.would.action is Action.PUSH or turn.done.action in (Action.PUSH, Action.ROLLBACK)
    ]
    if moves:
        table = Table(title="decisions that push, here or there (ms: mean latency predicted)")
        table.title_justify = "left"
        for name in ("decision", "did", "step", "ms", "would", "step", "ms", "difference"):
            table.add_column(name, justify="left" if name in ("did", "would") else "right")
        for turn in moves:
            done, would = turn.done, turn.would
            table.add_row(
                str(turn.number),
                *(done.action.value, f"{done.largest:.1%}", _ms(done.latency)),
                *(would.action.value, f"{would.largest:.1%}", _ms(would.latency)),
                _difference(done.latency, would.latency),
            )
        console.print(table)
    table = Table(title=f"{len(replay.turns)} decisions made anew", title_justify="left")
    for name in ("", "did", "would", "difference"):
        table.add_column(name, justify="left" if not name else "right")
    for name, did, instead in (
        ("mean latency, ms", replay.done.latency, replay.would.latency),
        ("objective, ms", replay.done.objective, replay.would.objective),
    ):
        table.add_row(name, _ms(did), _ms(instead), _difference(did, instead))
    sides = (replay.done, replay.would)
    table.add_row("pushes", *(str(side.pushes) for side in sides))
    table.add_row("traffic moved", *(f"{side.moved:.1%}" for side in sides))
    table.add_row("largest move of a weight", *(f"{side.largest:.1%}" for side in sides))
    table.add_row("solving, ms", *(_ms(side.seconds) for side in sides))
    won = {(part, solver): None for side in sides for part in side.won for solver in side.won[part]}
    for part, solver in won:
        counts = (str(side.won.get(part, {}).get(solver, 0)) for side in sides)
        table.add_row(f"{part} won by {solver}", *counts)
    console.print(table)
    lines = [f"{why}: {count} skipped" for why, count in replay.skipped.items()]
    lines.append("observations are those of what really ran, not of what would have")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "number": turn.number,
        "time": turn.time,
        "demand": turn.demand,
        "done": _of_side(turn.done),
        "would": _of_side(turn.would),
    }


def _of_side(side: Side) -> dict[str, Any]:
    return {
        "action": side.action.value,
        "why": side.why,
        "weights": _plain(side.plan.weights),
        "max_requests": {name: limit.max_requests for name, limit in side.plan.limits.items()},
        "objective": side.objective,
        "latency": side.latency,
        "moved": side.moved,
        "largest": side.largest,
        "candidates": [
            {name: getattr(c, name) for name in ("part", "solver", "objective", "seconds", "won")}
            for c in side.candidates
        ],
    }


def _plain(weights: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {route: dict(split) for route, split in weights.items()}


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.2f}"


def _difference(done: float | None, would: float | None) -> str:
    return "-" if done is None or would is None else f"{would / done - 1:+.2%}"


def _fail(lines: list[str]) -> NoReturn:
    for line in lines:
        typer.echo(f"eigenmesh: {line}", err=True)
    raise typer.Exit(1)
