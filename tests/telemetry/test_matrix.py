"""An answer read in pieces is the answer."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from eigenmesh.telemetry.matrix import read_answer

texts = st.text(max_size=12) | st.sampled_from(['"result":[', "]}", '[{"', "\\"])
series = st.fixed_dictionaries(
    {
        "metric": st.dictionaries(texts, texts, max_size=3),
        "values": st.lists(st.tuples(st.floats(0, 2e9), texts).map(list), max_size=3),
    }
)
around = st.dictionaries(st.sampled_from(["warnings", "stats"]), st.lists(texts, max_size=2))


@given(st.lists(series, max_size=4), around, st.booleans())
def test_in_pieces_as_in_one(found: list[Any], more: dict[str, Any], spaced: bool) -> None:
    document = {"status": "success", "data": {"resultType": "matrix", "result": found}} | more
    separators = (", ", ": ") if spaced else (",", ":")
    body = json.dumps(document, separators=separators).encode()
    assert read_answer(body) == document


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"\xff",
        b'{"data":{"result":[',
        b'{"data":{"result":[{"metric":{}}',
        b'{"data":{"result":[{"metric":{}} {}]}}',
        b'{"data":{"result":[{}]}} more',
    ],
)
def test_what_is_no_answer_is_said(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whichever it is, the source says it)
        read_answer(body)
