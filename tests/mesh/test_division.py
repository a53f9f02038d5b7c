"""A limit divided over proxies: whole, in proportion, and never more than there is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh.division import divide, shares

FRACTIONS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.floats(0.0, 1.0), min_size=1, max_size=30
)


@pytest.mark.parametrize(
    ("limit", "fractions", "parts"),
    [
        (100, {"a": 0.7, "b": 0.2, "c": 0.1}, {"a": 70, "b": 20, "c": 10}),
        (10, {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 4, "b": 3, "c": 3}),
        (10, {"a": 0.98, "b": 0.01, "c": 0.01}, {"a": 8, "b": 1, "c": 1}),
        (7, {"a": 1.0}, {"a": 7}),
        (2, {"a": 0.9, "b": 0.05, "c": 0.05}, {"a": 1, "b": 1, "c": 1}),
        (9, {"a": 0.0, "b": 0.0, "c": 0.0}, {"a": 3, "b": 3, "c": 3}),
    ],
)
def test_parts(limit: int, fractions: dict[str, float], parts: dict[str, int]) -> None:
    assert divide(limit, fractions) == parts


@given(st.integers(1, 5000), FRACTIONS)
def test_parts_are_at_least_one_and_sum_to_the_limit(
    limit: int, fractions: dict[str, float]
) -> None:
    parts = divide(limit, fractions)
    assert parts.keys() == fractions.keys()
    assert min(parts.values()) >= 1
    if len(fractions) <= limit and sum(fractions.values()) > 0:
        assert sum(parts.values()) == limit
    else:
        assert sum(parts.values()) <= max(limit, len(fractions))


@given(st.integers(1, 5000), FRACTIONS)
def test_who_has_more_traffic_has_no_smaller_part(limit: int, fractions: dict[str, float]) -> None:
    parts = divide(limit, fractions)
    ordered = sorted(fractions, key=lambda name: fractions[name])
    for less, more in itertools.pairwise(ordered):
        if fractions[less] < fractions[more]:
            assert parts[less] <= parts[more] + 1


@given(st.integers(40, 5000), FRACTIONS)
def test_parts_are_near_their_fraction(limit: int, fractions: dict[str, float]) -> None:
    total = sum(fractions.values())
    if total > 0:
        for name, part in divide(limit, fractions).items():
            assert abs(part - limit * fractions[name] / total) <= 2.0 + len(fractions)


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=2), st.floats(0.0, 1e6), max_size=9),
    st.sets(st.text("abc", min_size=1, max_size=2), min_size=1),
)
def test_shares_sum_to_one_and_none_is_zero(seen: dict[str, float], proxies: set[str]) -> None:
    found = shares(seen, proxies)
    assert sum(found.values()) == pytest.approx(1.0)
    assert found.keys() == proxies
    assert min(found.values()) > 0


def test_shares_follow_what_was_seen_and_doubt_what_was_hardly() -> None:
    many = shares({"a": 7000, "b": 2000, "c": 1000}, "abc")
    assert many["a"] == pytest.approx(0.9 * 0.7 + 0.1 / 3, abs=0.002)
    few = shares({"a": 3}, "abc")
    assert few["a"] < 0.5
    assert shares({}, "abc") == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
