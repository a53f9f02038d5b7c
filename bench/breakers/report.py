"""The table and the plot of a scenario, from its raw figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.breakers import figures
from bench.breakers.figures import counted, spread
from bench.breakers.setup import SLO


@dataclass(frozen=True)
class Column:
    """A column of the table. scale: what a figure is multiplied by."""

    title: str
    figure: figures.Figure
    scale: float = 1.0
    digits: int = 1


def percent(title: str, figure: figures.Figure, digits: int = 1) -> Column:
    return Column(f"{title}, %", figure, 100.0, digits)


@dataclass(frozen=True)
class Panel:
    """One panel of the plot. windows: their column; sums: sample columns with this beginning,
    added up. lines: level -> its label."""

    title: str
    windows: str = ""
    sums: str = ""
    scale: float = 1.0
    log: bool = False
    lines: Mapping[float, str] | None = None


P95 = Panel(
    "p95 of the answered, ms", windows="p95", scale=1e3, log=True, lines={1e3 * SLO: "target"}
)


def write(
    document: Mapping[str, Any],
    *,
    caption: str,
    columns: Sequence[Column],
    panels: Sequence[Panel],
    results: Path,
    pictures: Path,
) -> str:
    """Writes breakers_<scenario>.md into `results` and .svg into `pictures`; returns the table."""
    text = table(document, caption, columns)
    name = f"breakers_{document['scenario']}"
    (results / f"{name}.md").write_text(text)
    pictures.mkdir(parents=True, exist_ok=True)
    _plot(document, panels, pictures / f"{name}.svg")
    return text


def table(document: Mapping[str, Any], caption: str, columns: Sequence[Column]) -> str:
    """Medians of the repetitions that count, with their ranges, a row each variant."""
    runs, every = counted(document), document["repetitions"]
    late = spread([1e3 * one["lag"] for one in every], 2)
    mean, p95 = (spread([1e3 * one["idle"][name] for one in every]) for name in ("mean", "p95"))
    service = ", ".join(sorted({f"{1e3 * u[1]:g}" for u in document["upstreams"].values()}))
    lines = [
        f"{caption}\n\nMedians of {len(runs)} of {len(every)} repetitions of "
        f"{document['seconds']:g} s, range in brackets; all variants side by side on "
        f"{document['machine']['cores']} cores. Load sent late, p99: {late} ms. "
        f"Idle control beside them: mean {mean} ms, p95 {p95} ms, for a service of {service} ms.",
        "",
    ]
    if not runs:
        return "\n".join([*lines, "No repetition counts.", ""])
    lines.append(f"| variant | {' | '.join(column.title for column in columns)} |")
    lines.append("|---" * (len(columns) + 1) + "|")
    for name in runs[0]["variants"]:
        cells = [
            spread([c.scale * c.figure(run["variants"][name]) for run in runs], c.digits)
            for c in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _plot(document: Mapping[str, Any], panels: Sequence[Panel], path: Path) -> None:
    """Each variant's median over the repetitions, over time."""
    runs = counted(document) or document["repetitions"]
    figure = Figure(figsize=(9.0, 2.6 * len(panels)))
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        for name in runs[0]["variants"]:
            series = [_series(panel, run["variants"][name]) for run in runs]
            count = min(len(values) for _, values in series)
            if count:
                values = np.array([values[:count] for _, values in series], dtype=np.float64)
                # A window in which nothing was answered has no value: a gap in the line.
                known = ~np.all(np.isnan(values), axis=0)
                middle = np.full(count, np.nan)
                middle[known] = np.nanmedian(values[:, known], axis=0)
                axis.plot(series[0][0][:count], panel.scale * middle, label=name, linewidth=1.0)
        for level, label in (panel.lines or {}).items():
            axis.axhline(level, color="0.4", linestyle=":", linewidth=1.0)
            axis.annotate(label, (0.0, level), fontsize=7, color="0.3", va="bottom")
        if panel.log:
            axis.set_yscale("log")
        axis.set_title(panel.title, fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axes[-1, 0].set_xlabel("seconds", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    rows = -(-len(labels) // 3)
    figure.legend(handles, labels, fontsize=8, loc="upper center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0.0, 0.0, 1.0, 1.0 - 0.25 * rows / figure.get_figheight()))
    # The same figures draw the same file.
    with mpl.rc_context({"svg.hashsalt": "eigenmesh"}):
        figure.savefig(path, metadata={"Date": None})


def _series(panel: Panel, raw: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    if panel.windows:
        values = raw["windows"][panel.windows]
        return [float(second) for second in range(len(values))], _floats(values)
    samples = raw["samples"]
    chosen = [_floats(v) for name, v in samples.items() if name.startswith(panel.sums)]
    # A dead proxy's limit is None, and counts for nothing.
    return samples["time"], np.nansum(chosen, axis=0).tolist() if chosen else []


def _floats(values: Sequence[Any]) -> list[float]:
    return [np.nan if value is None else float(value) for value in values]
