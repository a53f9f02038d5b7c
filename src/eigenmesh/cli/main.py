"""The command line. Imports are inside the commands: `check` must start in under a second."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from eigenmesh import __version__
from eigenmesh.cli.bench import bench
from eigenmesh.cli.ctl import ctl
from eigenmesh.cli.replay import replay

if TYPE_CHECKING:
    from eigenmesh.control.settings import Settings, SettingsError

app = typer.Typer(
    name="eigenmesh",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Steers Envoy's route weights and circuit breakers from live latency.\n\n"
    "Start with `eigenmesh demo`, or `eigenmesh check eigenmesh.yaml`.",
)
app.add_typer(ctl, name="ctl")
app.add_typer(bench, name="bench")

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Settings file (YAML).", show_default=True)
]
DEFAULT_CONFIG = Path("eigenmesh.yaml")


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eigenmesh {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Settings file (YAML).")] = DEFAULT_CONFIG,
) -> None:
    """Validates a settings file and says what would be steered. Exit status 1 if it is bad.

    Example: `eigenmesh check eigenmesh.yaml`
    """
    settings = _load(file)
    plan = settings.groups.original_plan()
    typer.echo(f"{file}: valid")
    if settings.model.overlay:
        layer = settings.model.runtime_layer
        typer.echo(f"  overlay: serves one runtime layer ({layer}) and nothing else")
    for route in settings.topology.routes:
        split = ", ".join(f"{c} {w:.0%}" for c, w in plan.weights[route.name].items())
        typer.echo(f"  steers route {route.name}: {split}")
    for group, match in settings.groups.grouping.groups:
        typer.echo(f"  serves group {group}: {match}")
    if settings.groups.grouping.strangers is None:
        typer.echo("  refuses every node that fits no group")
    for cluster, thresholds in settings.groups.ejecting().items():
        typer.echo(f"  outlier detection of {cluster}: {thresholds}")
    for line in settings.groups.left_alone:
        typer.echo(f"  leaves alone: {line}")
    for line in settings.warnings:
        typer.echo(f"  warning: {line}")


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    log_level: Annotated[LogLevel, typer.Option(help="Least severe log line.")] = LogLevel.INFO,
) -> None:
    """Serves xDS and steers the mesh until it is stopped (SIGINT or SIGTERM).

    Example: `eigenmesh run -c eigenmesh.yaml`
    """
    settings = _load(config)
    from eigenmesh.cli.logs import configure_logs
    from eigenmesh.cli.serve import serve
    from eigenmesh.control.journal import JournalError

    configure_logs(log_level.value)
    for line in settings.warnings:
        typer.echo(f"eigenmesh: warning: {line}", err=True)
    try:
        asyncio.run(serve(settings))
    except JournalError as error:
        _fail(str(error))
    except (OSError, RuntimeError) as error:
        _fail(f"cannot start: {error}; is another Eigenmesh running on the same ports?")


@app.command()
def train_angles(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    config: ConfigOption = DEFAULT_CONFIG,
    layers: Annotated[int, typer.Option(min=1, max=10, help="QAOA depth.")] = 10,
    decisions: Annotated[int, typer.Option(min=1, help="Newest decisions to read.")] = 200,
) -> None:
    """Trains the QAOA circuit's angles on the limits that this mesh's journal had to decide.

    Eigenmesh may run meanwhile. Example: `eigenmesh train-angles -c eigenmesh.yaml -o angles.json`
    """
    settings = _load(config)
    import json

    from rich.console import Console

    from eigenmesh.control.journal import Journal, JournalError
    from eigenmesh.control.retrain import FAMILY, retrain
    from eigenmesh.mesh import MeshError

    path = settings.model.journal.path
    try:
        with Console(stderr=True).status(f"training {layers} layers on the blocks of {path}"):
            found = retrain(Journal.reading(path), settings, layers, decisions=decisions)
        out.write_text(json.dumps(found.table, indent=1) + "\n")
    except (JournalError, MeshError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"--out: {out}: {error.strerror}; choose a file that can be written")
    typer.echo(
        f"{found.blocks} blocks of {found.decisions} decisions; a sample within 1% of the optimum: "
        f"{found.before:.1%} with the shipped angles, {found.after:.1%} with these\n"
        f"{out}: to use it, set `circuits: {{angles: {out}, family: {FAMILY}, layers: {layers}}}`"
    )


@app.command()
def bootstrap(
    config: ConfigOption = DEFAULT_CONFIG,
    xds_address: Annotated[
        str | None,
        typer.Option(help="Where Envoy reaches Eigenmesh, host:port (default: xds.listen)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for bootstrap.yaml and, with TLS, secrets."),
    ] = None,
    overlay: Annotated[
        bool,
        typer.Option("--overlay", help="What to add to an Envoy that keeps its control plane."),
    ] = False,
) -> None:
    """Prints the Envoy bootstrap that joins this Eigenmesh, or writes it into a folder.

    With TLS it has to be a folder: Envoy watches its certificates only if files of their own name
    them.

    With `overlay: true` in the settings it prints what to add to the bootstrap that you have, and
    which of your weighted routes lack something.

    Example: `eigenmesh bootstrap -c eigenmesh.yaml > envoy.yaml && envoy -c envoy.yaml`
    """
    settings = _load(config)
    from eigenmesh.control.joining import client_tls
    from eigenmesh.control.settings import SettingsError
    from eigenmesh.xds.documents import dump_yaml

    if overlay and not settings.model.overlay:
        _fail(f"{config}: overlay: False: set overlay: true, or leave out --overlay")
    from eigenmesh.xds.bootstrap import bootstrap_yaml
    from eigenmesh.xds.client_tls import secret_files

    node = settings.model.node
    address = xds_address or settings.model.xds.listen
    try:
        tls = client_tls(settings, xds_address=address, folder=str((output or Path()).absolute()))
    except SettingsError as error:
        _complain(error)
    if tls is not None and output is None:
        _fail(f"{config}: node.tls: Envoy reads secrets from files; use --output FOLDER")
    text = bootstrap_yaml(
        node_id=node.id,
        node_cluster=node.cluster,
        xds_address=address,
        admin_address=node.admin,
        runtime_layer=settings.model.runtime_layer,
        tls=tls,
        overlay=settings.model.overlay,
    )
    if settings.model.overlay:
        # A name may have line breaks.
        lines = (" ".join(line.split()) for line in settings.groups.left_alone)
        text = "".join(f"# not steered: {line}\n" for line in lines) + text
    if output is None:
        typer.echo(text, nl=False)
        return
    secrets = secret_files(tls) if tls else {}
    files = {"bootstrap.yaml": text, **{name: dump_yaml(made) for name, made in secrets.items()}}
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (output / name).write_text(content, encoding="utf-8")
        typer.echo(f"written: {output / name}")


@app.command()
def adopt(
    file: Annotated[Path, typer.Argument(help="Your static envoy.yaml.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for eigenmesh.yaml and bootstrap.yaml.")
    ] = Path("."),
    xds_address: Annotated[
        str, typer.Option(help="Where Eigenmesh will listen and Envoy reach it, host:port.")
    ] = "127.0.0.1:18000",
    envoy: Annotated[
        Path | None,
        typer.Option(
            help="Your Envoy's executable (or a FileDescriptorSet): tells what your file may use "
            "beyond what is known here. Default: the installed Envoy, if there is one."
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Settings to keep, such as xds.tls and node.tls (YAML)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
) -> None:
    """Turns a static envoy.yaml into Eigenmesh settings and the bootstrap that joins it.

    An Envoy with dynamic_resources keeps its control plane: Eigenmesh then serves one runtime
    layer beside it (overlay: true).

    Your file is not changed. Nothing is steered before you say so (mode: observe).

    Example: `eigenmesh adopt envoy.yaml -o adopted/`
    """
    import yaml

    from eigenmesh.control.adopt import adopt as split
    from eigenmesh.control.settings import SettingsError
    from eigenmesh.xds.documents import dump_yaml, load_yaml

    targets = {name: output / name for name in ("eigenmesh.yaml", "bootstrap.yaml")}
    for target in targets.values():
        if target.exists() and not force:
            _fail(f"{target}: exists already; use --force, or another --output")
    try:
        document = load_yaml(file.read_text(encoding="utf-8"))
        adopted = split(
            document or {},
            xds_address=xds_address,
            file=str(file),
            base=load_yaml(base.read_text(encoding="utf-8")) if base else None,
            folder=str(output.absolute()),
            envoy=envoy or _envoy(),
        )
    except SettingsError as error:
        _complain(error)
    except yaml.YAMLError as error:
        _fail(f"{file}: not YAML: {' '.join(str(error).split())}")
    except OSError as error:
        _fail(f"{file}: cannot be read: {error.strerror}")
    output.mkdir(parents=True, exist_ok=True)
    documents = {"eigenmesh.yaml": adopted.settings, "bootstrap.yaml": adopted.bootstrap}
    for name, content in {**documents, **adopted.secrets}.items():
        (output / name).write_text(dump_yaml(content), encoding="utf-8")
    for line in adopted.understood:
        typer.echo(line)
    typer.echo(f"written: {targets['eigenmesh.yaml']} and {targets['bootstrap.yaml']}")
    typer.echo(f"next: eigenmesh run -c {targets['eigenmesh.yaml']}")
    typer.echo(f"then: envoy -c {targets['bootstrap.yaml']}")


@app.command()
def demo(
    prometheus: Annotated[
        bool, typer.Option("--prometheus", help="Measure through a real Prometheus.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Short phases; the figures then mean little.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Where the run's files go (default: runs/demo-TIME).")
    ] = None,
) -> None:
    """Closes the loop on a real Envoy: three upstreams, load, take-over, a report. Two minutes.

    Exit status 0 if Eigenmesh improved on equal weights and no request failed by a push.

    Example: `eigenmesh demo --prometheus`
    """
    try:
        from eigenmesh.demo.run import Options, run_demo
    except ImportError as error:
        _fail(f"{error}: pip install 'eigenmesh[demo]'")
    raise typer.Exit(run_demo(Options(prometheus=prometheus, fast=fast, folder=folder)))


app.command()(replay)


def _envoy() -> Path | None:
    """The Envoy of this machine: on the path (a script only starts it), or the demo's."""
    from eigenmesh.demo.processes import ProcessError, envoy_binary

    if found := which("envoy"):
        with open(found, "rb") as file:
            if file.read(2) != b"#!":
                return Path(found)
    try:
        return envoy_binary()
    except ProcessError:
        return None


def _load(file: Path) -> Settings:
    from eigenmesh.control.settings import SettingsError, load_settings

    try:
        return load_settings(file)
    except SettingsError as error:
        _complain(error)


def _complain(error: SettingsError) -> NoReturn:
    for line in error.lines:
        typer.echo(f"eigenmesh: {line}", err=True)
    raise typer.Exit(1) from error


def _fail(message: str) -> NoReturn:
    typer.echo(f"eigenmesh: {message}", err=True)
    raise typer.Exit(1)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
