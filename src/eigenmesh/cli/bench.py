"""`eigenmesh bench`: the repository's measurements, which are not part of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer

bench = typer.Typer(
    no_args_is_help=True,
    help="Repeats measurements, from a clone of Eigenmesh.\n\n"
    "Example: `eigenmesh bench scenario capacities --twin`",
)


@bench.callback()
def _root() -> None:
    pass


@bench.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def scenario(context: typer.Context) -> None:
    """Plays scenarios of `bench/scenarios`, on a real Envoy or simulated.

    Arguments are those of `python -m bench.scenarios`, which its own `--help` shows.

    Example: `eigenmesh bench scenario capacities --twin`
    """
    if not Path("bench/scenarios/__main__.py").is_file():
        typer.echo("eigenmesh bench: no bench/scenarios here; run it in a clone", err=True)
        raise typer.Exit(2)
    done = subprocess.run([sys.executable, "-m", "bench.scenarios", *context.args], check=False)
    raise typer.Exit(done.returncode)
