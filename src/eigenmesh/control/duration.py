"""Durations as people write them: 2s, 500ms, 1m30s; a bare number is seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def parse_duration(value: object) -> float:
    """Seconds. Raises ValueError when `value` is not a duration."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+", text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    raise ValueError("write a duration such as 2s, 500ms or 1m30s")


Seconds = Annotated[float, BeforeValidator(parse_duration)]
