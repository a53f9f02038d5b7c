"""Reads the answer of a Prometheus query series by series.

`json.loads` holds the interpreter until it is through: megabytes of samples, read in a thread,
would still keep the event loop waiting. Read in small pieces, the threads can take turns.
"""

from __future__ import annotations

import json
from typing import Any

_RESULT = '"result":['
_DECODER = json.JSONDecoder()


def read_answer(body: bytes) -> dict[str, Any]:
    """The document, as `json.loads` gives it. Raises ValueError."""
    text = body.decode()
    start = text.find(_RESULT)
    at = start + len(_RESULT)
    if start < 0 or text[at : at + 1] == "]":
        return _mapping(json.loads(text))
    series: list[Any] = []
    while True:
        one, at = _DECODER.raw_decode(text, at)
        series.append(one)
        if text[at : at + 1] != ",":
            break
        at += 1
    if text[at : at + 1] != "]":
        # Written otherwise than Prometheus and its like do, or broken.
        return _mapping(json.loads(text))
    # What stands around the series is small.
    document = _mapping(json.loads(text[:start] + _RESULT + text[at:]))
    document["data"]["result"] = series
    return document


def _mapping(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document
