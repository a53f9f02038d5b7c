"""The text format: what is written is read back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.telemetry.exposition import format_series, parse_series, samples

names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,20}", fullmatch=True)
values = st.text(st.characters(codec="utf-8"), max_size=20)
labels = st.dictionaries(names, values, max_size=5)
numbers = st.floats(allow_nan=False)


@given(names, labels)
def test_a_series_survives_writing_and_reading(name: str, given_labels: dict[str, str]) -> None:
    assert parse_series(format_series(name, given_labels)) == (name, given_labels)


@given(st.lists(st.tuples(names, labels, numbers)), st.booleans())
def test_samples_survive_writing_and_reading(
    rows: list[tuple[str, dict[str, str], float]], timestamped: bool
) -> None:
    tail = " 1395066363000" if timestamped else ""
    lines = ["# HELP something {here} 7", "# TYPE x counter", ""]
    lines += [f"{format_series(name, own)} {value!r}{tail}" for name, own, value in rows]
    read = [(*parse_series(series), value) for series, value in samples("\n".join(lines) + "\n")]
    assert read == rows


def test_envoys_own_dialect() -> None:
    text = (
        "# TYPE envoy_server_uptime gauge\n"
        "envoy_server_uptime{} 12\n\n"
        'envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="a \\"b\\\\",le="+Inf"} 3\n'
        "bare NaN\n"
    )
    (first, one), (second, three), (third, nan) = samples(text)
    assert (parse_series(first), one) == (("envoy_server_uptime", {}), 12.0)
    name = "envoy_cluster_upstream_rq_time_bucket"
    assert parse_series(second) == (name, {"envoy_cluster_name": 'a "b\\', "le": "+Inf"})
    assert three == 3.0
    assert third == "bare"
    assert math.isnan(nan)


@pytest.mark.parametrize("line", ["name", 'name{a="b"}', "name x", "<html>no</html>", 'a{b="c"} '])
def test_what_is_not_the_format_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a sample"):
        list(samples(line))


@pytest.mark.parametrize("series", ['n{a="b" c="d"}', "n{a=b}", 'n{a="b}'])
def test_malformed_labels_are_refused(series: str) -> None:
    with pytest.raises(ValueError, match="malformed labels"):
        parse_series(series)
