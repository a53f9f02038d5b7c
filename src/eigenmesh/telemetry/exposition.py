"""The Prometheus text format, read fast.

A sample's line is its series (name and labels) and its value. A proxy writes the same series in
every scrape, so the series is handed over as text, for the reader to look up what it made of it
the last time; only a series that was never seen is taken apart.

Source: Prometheus, "Exposition formats", text-based format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n"}


def samples(text: str) -> Iterator[tuple[str, float]]:
    """(series, value) of every sample, in order. Raises ValueError for a malformed line."""
    for line in text.split("\n"):
        if not line or line[0] == "#":
            continue
        end = line.rfind("}") + 1 or line.find(" ")
        try:
            yield line[:end], float(line[end:].split(None, 1)[0])
        except (ValueError, IndexError):
            raise ValueError(
                f"not a sample of the Prometheus text format: {line[:120]!r}"
            ) from None


def parse_series(series: str) -> tuple[str, dict[str, str]]:
    """Name and labels of a series. Raises ValueError when it is malformed."""
    name, brace, rest = series.strip().partition("{")
    if not brace:
        return name, {}
    body = rest[:-1].strip()
    labels: dict[str, str] = {}
    position = 0
    while position < len(body):
        match = _LABEL.match(body, position)
        if match is None:
            raise ValueError(f"malformed labels: {series[:120]!r}")
        labels[match[1]] = _ESCAPE.sub(lambda m: _UNESCAPED.get(m[1], m[1]), match[2])
        position = match.end()
    return name, labels


def format_series(name: str, labels: Mapping[str, str]) -> str:
    """The text of a series; what `parse_series` undoes."""
    inside = ",".join(f'{key}="{_escape(value)}"' for key, value in labels.items())
    return f"{name}{{{inside}}}" if labels else name


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
