"""The journal's benchmark runs, on meshes so small that it takes a second."""

from __future__ import annotations

from pathlib import Path

from bench import journal


def test_every_figure_is_there(tmp_path: Path) -> None:
    one = journal.measure(3, 20, tmp_path)
    assert one["bytes a decision"]["evidence"] < one["bytes a decision"]["now"]
    assert one["bytes a decision"]["now"] < one["bytes a decision"]["before"]
    at = journal.full(tmp_path, 0.5)
    assert at["closed, MB"] <= at["megabytes"]
    assert at["kept"]["evidence"] < at["kept"]["decisions"] <= at["decisions"]
    text = journal.table({"meshes": [one], "full": at, "load average": 0.0})
    assert "| 3 | " in text
