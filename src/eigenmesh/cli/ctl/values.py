"""What people type for times and figures. Raises typer.BadParameter (usage, exit status 2)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import typer

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+", re.ASCII)
DEFAULT = "default"
"""As a value: what the settings say."""


def decision(text: str) -> int | Literal["latest", "pending"]:
    """Its number, or which one."""
    match text:
        case "latest" | "pending":
            return text
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"{text!r}: write its number, latest or pending")
    return int(text)


def duration(text: str) -> timedelta:
    """`90s`, `2h`, `1h30m`: of s, m, h and d."""
    try:
        if not _DURATION.fullmatch(text):
            raise ValueError
        parts = re.findall(r"([\d.]+)([smhd])", text)
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r}: write a duration as 90s, 30m, 2h, 1d or 1h30m"
        ) from None


def moment(text: str) -> datetime:
    """An ISO 8601 time; without a zone it is the local time of this machine."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{text!r}: write a time as 2026-12-24T18:00Z or, in local time, 2026-12-24T18:00"
        ) from None


def figures(texts: Sequence[str], example: str) -> dict[str, float]:
    """`name=figure` each; the last `=` separates, since names may have one."""
    found = {}
    for name, value in _pairs(texts, example):
        found[name] = _figure(value, f"{name}={value}", example)
    return found


def overrides(texts: Sequence[str], example: str) -> dict[str, float | None]:
    """Like `figures`; `name=default` gives None."""
    found: dict[str, float | None] = {}
    for name, value in _pairs(texts, example):
        found[name] = (
            None if value == DEFAULT else _figure(value, f"{name}={value}", f"{example} or default")
        )
    return found


def _pairs(texts: Sequence[str], example: str) -> list[tuple[str, str]]:
    pairs = []
    for text in texts:
        name, separator, value = text.rpartition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{text!r}: write it as {example}")
        pairs.append((name, value))
    if twice := {name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1}:
        raise typer.BadParameter(f"{', '.join(sorted(twice))}: given twice")
    return pairs


def _figure(text: str, whole: str, example: str) -> float:
    """Percentages too: `30%` is 0.3."""
    scale = 0.01 if text.endswith("%") else 1.0
    try:
        value = float(text.removesuffix("%")) * scale
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{whole!r}: write it as {example}")
    return value
