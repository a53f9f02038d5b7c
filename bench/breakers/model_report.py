"""What `bench.breakers.model` found, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.breakers.model import Cell

_INTRO = """# The breaker model against a real Envoy

Percent of the requests that a limit of `max_requests` blocks; eight slots. `off` is the model less
Envoy in the long run, which is Envoy's own figure less the chance that an ideal queue had with the
same requests (`make bench-breaker-model` says more). Its standard error is beside it.

"""
_HEAD = (
    "| arrivals | load | limit | protocol | model | exact chain | Envoy | ideal, same requests "
    "| Envoy, long run | off |\n|---|---|---|---|---|---|---|---|---|---|\n"
)


def table(cells: Sequence[Cell]) -> str:
    """The report, in percent and percentage points."""
    rows = [
        f"| {c.arrivals} | {c.load:g} | {c.limit} | {c.protocol} | {100 * c.model:.1f} "
        f"| {100 * c.exact:.1f} | {100 * c.envoy:.1f} | {100 * c.ideal:.1f} "
        f"| {100 * c.long_run:.1f} | {100 * c.off:+.1f} ± {100 * c.error:.1f} |\n"
        for c in cells
    ]
    worst = max(cells, key=lambda c: abs(c.off))
    within = sum(abs(c.off) <= 0.03 for c in cells)
    near = sum(abs(abs(c.off) - 0.03) < 2.0 * c.error for c in cells)
    plain = sum(abs(c.model - c.envoy) <= 0.03 for c in cells)
    verdict = (
        f"{within} of {len(cells)} are within 3 points; the worst is {100 * worst.off:+.1f} "
        f"({worst.arrivals}, {worst.protocol}, load {worst.load:g}, limit {worst.limit}). "
        f"{near} of them are less than two standard errors away from 3 points. "
        f"Of Envoy's own figures, chance and all, {plain} are within 3 points of the model."
    )
    calm = {(c.load, c.limit): c.model for c in cells if c.arrivals == "poisson"}
    if swung := [calm[c.load, c.limit] - c.long_run for c in cells if c.arrivals == "mmpp"]:
        verdict += (
            f" A model that took the {len(swung)} swinging ones for Poisson would have "
            f"{sum(abs(off) <= 0.03 for off in swung)} within, the worst {100 * min(swung):+.1f}."
        )
    verdict += "\n\n"
    return _INTRO + verdict + _HEAD + "".join(rows)


def plot(cells: Sequence[Cell], path: Path) -> None:
    """Lines are the model, marks are Envoy: one panel for each kind of arrivals."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "breaker"
    kinds = list(dict.fromkeys(c.arrivals for c in cells))
    figure, axes = plt.subplots(1, len(kinds), figsize=(9, 3.6), sharey=True, squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=True):
        for index, limit in enumerate(sorted({c.limit for c in cells})):
            colour = f"C{index}"
            mine = [c for c in cells if c.arrivals == kind and c.limit == limit]
            line = sorted({(c.load, 100 * c.model) for c in mine})
            axis.plot(*zip(*line, strict=True), color=colour, label=f"model, limit {limit}")
            for protocol, mark in (("http1", "o"), ("http2", "x")):
                found = [(c.load, 100 * c.long_run) for c in mine if c.protocol == protocol]
                axis.plot(*zip(*found, strict=True), mark, color=colour)
        axis.set_title(f"{kind} (o HTTP/1.1, x HTTP/2)")
        axis.set_xlabel("load / capacity")
    axes[0][0].set_ylabel("blocked, %")
    axes[0][0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
