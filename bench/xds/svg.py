"""Line plots with logarithmic axes, as SVG, without a plotting library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 340
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 110
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e")


@dataclass(frozen=True, slots=True)
class Series:
    """points: (x, y), both above 0."""

    label: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]


def figure(panels: Sequence[Panel]) -> str:
    """The panels with points in them, side by side."""
    shown = [p for p in panels if any(s.points for s in p.series)]
    body = "".join(
        f'<g transform="translate({index * WIDTH},0)">{"".join(_panel(panel))}</g>'
        for index, panel in enumerate(shown)
    )
    width = WIDTH * max(1, len(shown))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" '
        f'viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>{body}</svg>\n'
    )


class _Axis:
    """A logarithmic axis from `start` to `end` in pixels; its range is whole decades."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(values))))
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def _panel(panel: Panel) -> Iterator[str]:
    points = [point for series in panel.series for point in series.points]
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    x = _Axis([p[0] for p in points], LEFT, right)
    y = _Axis([p[1] for p in points], bottom, TOP)
    yield _text(WIDTH / 2, 20, panel.title, "middle", 'font-weight="bold"')
    for value in x.decades():
        yield _line(x.at(value), TOP, x.at(value), bottom, "#ddd")
        yield _text(x.at(value), bottom + 15, f"{value:g}", "middle")
    for value in y.decades():
        yield _line(LEFT, y.at(value), right, y.at(value), "#ddd")
        yield _text(LEFT - 6, y.at(value) + 4, f"{value:g}", "end")
    yield _text((LEFT + right) / 2, bottom + 32, panel.x_label, "middle")
    yield _text(LEFT - 6, TOP - 8, panel.y_label, "end")
    drawn = [series for series in panel.series if series.points]
    for index, series in enumerate(drawn):
        style = f'stroke="{COLOURS[index % len(COLOURS)]}" stroke-width="2" fill="none"'
        style += ' stroke-dasharray="5 3"' if series.dashed else ""
        path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in series.points)
        yield f'<polyline points="{path}" {style}/>'
        for a, b in series.points:
            yield f'<circle cx="{x.at(a):.1f}" cy="{y.at(b):.1f}" r="2.5" {style}/>'
        row = bottom + 48 + 15 * index
        yield f'<polyline points="{LEFT},{row} {LEFT + 25},{row}" {style}/>'
        yield _text(LEFT + 32, row + 4, series.label, "start")


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    where = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {where} stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'
