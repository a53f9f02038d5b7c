"""The demo in the terminal: live while it runs, a table at the end, plain lines in a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eigenmesh.demo import phases, stage
from eigenmesh.demo.messages import action, contests
from eigenmesh.demo.outcome import ROWS, Outcome
from eigenmesh.demo.scene import Scene
from eigenmesh.v1 import mesh_pb2 as pb

_BARS = "▁▂▃▄▅▆▇█"
_ACTION_STYLE = {"push": "bold green", "hold": "dim", "recommend": "cyan"}


class View:
    """Draws a scene until it is left: four frames a second, or a line per event in a pipe."""

    def __init__(self, scene: Scene, console: Console | None = None) -> None:
        self._scene = scene
        self._console = console or Console()
        self._live = self._console.is_terminal
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._draw() if self._live else self._tell())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _draw(self) -> None:
        # Drawn from the event loop, not from rich's thread: the scene changes under nobody's hand.
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(render(self._scene), refresh=True)
                await asyncio.sleep(0.25)

    async def _tell(self) -> None:
        told = 0
        while True:
            for event in self._scene.events[told:]:
                line = f"{event.time - self._scene.started:6.1f} s  {event.kind}: {event.says}"
                if event.kind == "push":
                    line += _live_figures(self._scene)
                self._console.print(line, highlight=False, soft_wrap=True)
            told = len(self._scene.events)
            await asyncio.sleep(0.25)


def _live_figures(scene: Scene) -> str:
    _, mean, p99, _ = scene.recent()
    return "" if math.isnan(mean) else f" (mean {_ms(mean)} ms, p99 {_ms(p99)} ms now)"


def render(scene: Scene) -> RenderableType:
    """The whole picture; fits 80 columns and 24 rows."""
    parts: list[RenderableType] = [
        _title(scene),
        _strip(scene),
        # Rich's bar does not end its line; padding does.
        Padding(ProgressBar(total=scene.total, completed=min(_done(scene), scene.total)), 0),
        Padding(Text(scene.status, style="italic"), (0, 0, 1, 0)),
        _latency(scene),
        _clusters(scene),
        _decision(scene),
    ]
    return Group(*parts)


def _title(scene: Scene) -> Text:
    elapsed = time.time() - scene.started
    steering = scene.mode == "auto"
    return Text.assemble(
        ("Eigenmesh demo", "bold"),
        f"  {stage.DEMAND:.0f} requests/s  ",
        ("Eigenmesh steers" if steering else "Eigenmesh watches", "green" if steering else "cyan"),
        (f"   {elapsed:.0f} s, about {max(0.0, scene.total - _done(scene)):.0f} s to go", "dim"),
    )


def _strip(scene: Scene) -> Text:
    """The phases in a row: done, now, to come."""
    names = [p.name for p in phases.script(phases.NORMAL)]
    now = names.index(scene.phase.name) if scene.phase else -1
    strip = Text()
    for i, name in enumerate(names):
        style = "green" if i < now else "bold reverse" if i == now else "dim"
        strip.append(name, style).append(" ")
    return strip


def _done(scene: Scene) -> float:
    """Seconds of the script that are behind us."""
    if scene.phase is None:
        return 0.0
    in_phase = scene.phase.seconds + scene.phase.settle
    return scene.behind + min(time.time() - scene.phase_began, in_phase)


def _latency(scene: Scene) -> Text:
    rate, mean, p99, bad = scene.recent()
    text = Text("latency now: ")
    if math.isnan(mean):
        return text.append("no requests", "dim").append("\n")
    text.append(f"mean {_ms(mean)} ms", "bold")
    text.append(f"  p99 {_ms(p99)} ms  {rate:.0f} answers/s  ")
    text.append(f"{bad} errors\n", "red" if bad else "dim")
    return text.append(sparkline(list(scene.latencies)), "yellow").append(
        " mean, last 30 s, log scale", "dim"
    )


def sparkline(seconds: list[float]) -> str:
    """One bar per value, on a logarithmic scale from 10 ms to 10 s."""
    bars = []
    for value in seconds:
        height = math.log10(max(value, 0.01) / 0.01) / 3.0
        bars.append(_BARS[min(len(_BARS) - 1, int(height * len(_BARS)))])
    return "".join(bars)


def _clusters(scene: Scene) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("cluster")
    for name in (*stage.ROUTES, "load/s", "in flight", "mean ms", "p99 ms", "limit", "learned/s"):
        table.add_column(name, justify="right")
    sample, decision = scene.sample, scene.decision
    states = {c.cluster: c for c in decision.clusters} if decision else {}
    for upstream in stage.UPSTREAMS:
        name = upstream.name
        state = states.get(name, pb.ClusterState())
        shares = [
            f"{sample.weights[r][name]:.0%}" if sample and r in sample.weights else "-"
            for r in stage.ROUTES
        ]
        table.add_row(
            name,
            *shares,
            f"{sample.loads.get(name, 0.0):.0f}" if sample else "-",
            f"{sample.in_flight.get(name, 0)}" if sample else "-",
            _ms(state.mean_seconds) if state.HasField("mean_seconds") else "-",
            _ms(state.p99_seconds) if state.HasField("p99_seconds") else "-",
            str(sample.limits.get(name, "-")) if sample else "-",
            f"{state.curve.capacity:.0f}" if state.HasField("curve") else "-",
        )
    return table


def _decision(scene: Scene) -> Text:
    decision = scene.decision
    if decision is None:
        return Text("\nno decision yet", "dim")
    what = action(decision)
    text = Text("\n")
    text.append(f"decision {decision.number}: ").append(what, _ACTION_STYLE[what])
    text.append(f": {decision.why}\n")
    for part, met in dict(contests(decision)).items():  # the last round of each part
        scores = ", ".join(f"{c.solver} {_ms(c.objective)}" for c in met)
        text.append(f"{part}: {scores}  ", "magenta")
    tally = "; ".join(f"{part}, {solver}: {n}" for (part, solver), n in scene.wins.most_common())
    return text.append(f"\nbetter so far: {tally or 'nobody yet'}", "dim")


def show_results(outcome: Outcome, report: Path, console: Console | None = None) -> None:
    """The table at the end, what the exit status rests on, and where the report is."""
    console = console or Console()
    table = Table(title=f"{stage.DEMAND:.0f} requests/s, latencies in ms", title_justify="left")
    table.add_column("policy")
    for name in ("mean", "p50", "p99", f"within {stage.SLO * 1e3:.0f} ms", "errors"):
        table.add_column(name, justify="right")
    for name, label in ROWS.items():
        stats = outcome.stats[name]
        table.add_row(
            label,
            *(_ms(stats.mean), _ms(stats.p50), _ms(stats.p99)),
            f"{stats.goodput:.0f}/s  {stats.good:.1%}",
            str(stats.errors),
            style="bold" if name == phases.STEADY else None,
            end_section=name == phases.ORACLE,
        )
    console.print(table)
    console.print(recovery_sentence(outcome), highlight=False)
    console.print(wins_sentence(outcome), highlight=False)
    for check in outcome.checks:
        mark = "[green]yes[/green]" if check.ok else "[red]NO[/red] "
        console.print(f"{mark} {check.says}", highlight=False)
    if outcome.busy:
        console.print(f"[yellow]{outcome.busy}[/yellow]", highlight=False)
    console.print(f"report: {report.resolve()}", highlight=False, soft_wrap=True)


def recovery_sentence(outcome: Outcome) -> str:
    target = f"25% of {_ms(outcome.recovery_target)} ms, the oracle's mean on what is left"
    if outcome.recovery is None:
        return f"After the degradation the mean did not come back within {target}."
    return (
        f"After the degradation the mean was back within {target} after {outcome.recovery:.1f} s."
    )


def wins_sentence(outcome: Outcome) -> str:
    """Whose plans scored better: the circuits' (simulated) or the classical solvers'."""
    parts = [
        f"{part}: " + ", ".join(f"{solver} {n} times" for solver, n in sorted(solvers.items()))
        for part, solvers in sorted(outcome.wins.items())
    ]
    return "Whose plan scored better, by contest: " + ("; ".join(parts) or "none was held") + "."


def _ms(seconds: float) -> str:
    """Milliseconds with the digits that matter."""
    ms = seconds * 1e3
    if math.isnan(ms):
        return "-"
    return f"{ms:.1f}" if ms < 100 else f"{ms:,.0f}"
