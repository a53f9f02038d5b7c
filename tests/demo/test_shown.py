"""What a person gets to see: the live picture, the table, the report."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from eigenmesh.demo import phases
from eigenmesh.demo.messages import TIE
from eigenmesh.demo.outcome import Outcome
from eigenmesh.demo.report import write_report
from eigenmesh.demo.results import Check
from eigenmesh.demo.view import render, show_results, sparkline

Make = Callable[[bool], Outcome]


def test_the_live_picture_fits_a_small_terminal(make_outcome: Make) -> None:
    scene = make_outcome(True).scene
    for phase in (None, *phases.script(phases.FAST)):
        if phase is not None:
            scene.enter(phase)
        console = Console(width=80, file=io.StringIO(), record=True)
        console.print(render(scene))
        lines = console.export_text().rstrip("\n").split("\n")
        assert len(lines) <= 24, "\n".join(lines)
        assert scene.status.split(".")[0][:60] in " ".join(lines), "\n".join(lines)
        assert max(map(len, lines)) <= 80
    assert any(line.startswith("a ") and "60%" in line for line in lines)


def test_the_sparkline_is_logarithmic_and_bounded() -> None:
    assert sparkline([0.0, 0.01, 0.1, 1.0, 10.0, 1000.0]) == "▁▁▃▆██"


def test_the_table_shows_all_policies_and_what_failed(make_outcome: Make, tmp_path: Path) -> None:
    console = Console(width=120, file=io.StringIO(), record=True)
    show_results(make_outcome(False), tmp_path / "report.html", console)
    text = console.export_text()
    for label in ("before: equal", "with Eigenmesh", "LEAST_REQUEST", "oracle", "degraded"):
        assert label in text
    assert "NO  better than equal weights" in text
    assert str(tmp_path / "report.html") in text


@pytest.fixture
def page(make_outcome: Make) -> str:
    return write_report(make_outcome(True)).read_text()


def test_the_report_loads_nothing_from_elsewhere(page: str) -> None:
    addresses = set(re.findall(r"https?://[^\"'\s<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not re.search(r"<(link|img|iframe|script[^>]+src)", page)


def test_the_report_has_what_the_plots_need(page: str) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    data = json.loads(found.group(1))
    assert {s["name"] for s in data["phases"]} == {p.name for p in phases.script(phases.FAST)}
    assert [e["says"] for e in data["events"]] == ["Eigenmesh takes over"]
    for name in ("latency", "weights", "limits"):
        for line in data["series"][name]:
            assert len(line["t"]) == len(line["v"]) > 0
            assert line["t"] == sorted(line["t"])
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)  # no hole in the form


def test_what_eigenmesh_says_is_text_not_markup(page: str) -> None:
    assert "<b>not markup</b>" not in page
    assert "&lt;b&gt;not markup" in page


def test_checks_are_marked(make_outcome: Make) -> None:
    made = make_outcome(False)
    assert made.checks[0] == Check(False, "better than equal weights")
    page = write_report(made).read_text()
    assert page.count('class="no"') == 1


def test_a_busy_machine_is_confessed(make_outcome: Make, tmp_path: Path) -> None:
    quiet = make_outcome(True)
    assert quiet.busy is None
    oracle = replace(quiet.stats[phases.ORACLE], late=0.0042)
    busy = replace(quiet, stats={**quiet.stats, phases.ORACLE: oracle})
    console = Console(width=120, file=io.StringIO(), record=True)
    show_results(busy, tmp_path / "report.html", console)
    warning = "in the phase oracle the load was sent 4.2 ms late"
    assert warning in " ".join(console.export_text().split())
    assert warning in write_report(busy).read_text()


def test_a_contest_is_won_by_more_than_the_last_digits(make_outcome: Make) -> None:
    scene = make_outcome(True).scene
    decisions = len(scene.decisions)
    assert scene.wins == {("weights", TIE): decisions, ("limits", "exhaustive"): decisions}


def test_a_decision_seen_twice_counts_once(make_outcome: Make) -> None:
    scene = make_outcome(True).scene
    before = dict(scene.wins)
    scene.decided(scene.decisions[-1])
    assert dict(scene.wins) == before
