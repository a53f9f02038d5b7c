"""Times and figures as they are typed."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.cli.ctl import values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("0.5h", 1800)],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert values.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 h", "-2h", "2h!", "1.2.3s", "9" * 400 + "d", "٢h"]
)
def test_what_is_no_duration_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write a duration as 90s"):
        values.duration(text)


def test_a_time_keeps_its_zone_and_is_local_without_one() -> None:
    assert values.moment("2026-12-24T18:00Z") == datetime(2026, 12, 24, 18, tzinfo=UTC)
    assert values.moment("2026-12-24T18:00+02:00") == datetime(2026, 12, 24, 16, tzinfo=UTC)
    assert values.moment("2026-12-24T18:00") == datetime(2026, 12, 24, 18).astimezone()


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "18:00"])
def test_what_is_no_time_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write a time as 2026-12-24T18:00Z"):
        values.moment(text)


def test_figures_may_be_percentages_and_names_may_have_equals_signs() -> None:
    found = values.figures(["a=0.7", "b=30%", "k=v=1e-2"], "c=0.7")
    assert found == {"a": 0.7, "b": 0.3, "k=v": 0.01}


@pytest.mark.parametrize("text", ["a", "=1", "a=", "a=x", "a=nan", "a=inf", "a=%"])
def test_what_is_no_figure_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"write it as cluster=0\.7"):
        values.figures([text], "cluster=0.7")


def test_a_name_twice_is_a_mistake() -> None:
    with pytest.raises(typer.BadParameter, match="a: given twice"):
        values.figures(["a=1", "b=1", "a=2"], "c=0.7")


def test_default_takes_an_override_back() -> None:
    found = values.overrides(["max_step=5%", "min_gain=default"], "max_step=0.05")
    assert found == {"max_step": 0.05, "min_gain": None}


@given(st.text())
def test_whatever_is_typed_is_a_value_or_a_usage_error(text: str) -> None:
    for read in (
        values.duration,
        values.moment,
        values.decision,
        lambda text: values.figures([text], "a=1"),
    ):
        with suppress(typer.BadParameter):
            read(text)


@given(st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False)))
def test_figures_are_read_as_they_were_written(figures: dict[str, float]) -> None:
    texts = [f"{name}={value!r}" for name, value in figures.items()]
    assert values.figures(texts, "a=1") == figures
