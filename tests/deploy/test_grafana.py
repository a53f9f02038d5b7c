"""Grafana's dashboards: generated, complete, and nothing in them fixed but the names of metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana.generate import written

from .queries import BOARDS, queries

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"


def test_what_is_checked_in_is_what_the_code_makes() -> None:
    kept = {path.name: path.read_text() for path in (GRAFANA / "dashboards").iterdir()}
    assert kept == written(), "run `make dashboards`"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_a_dashboard_asks_the_source_and_the_mesh_that_are_chosen(board: dict[str, Any]) -> None:
    variables = {v["name"]: v for v in board["templating"]["list"]}
    assert variables["source"]["type"] == "datasource"
    assert variables["mesh"]["query"].startswith("label_values(")
    uids = re.findall(r'"uid": "([^"]+)"', json.dumps(board))
    assert set(uids) == {board["uid"], "${source}"}
    series = re.compile(
        r"\b(?:\w+:)?(?!envoy_cluster_name)(?:eigenmesh|envoy|process)_[\w:]+(\{[^}]*)?"
    )
    for where, query in queries(board):
        if not query.startswith("label_values"):
            assert all('mesh="$mesh"' in chosen for chosen in series.findall(query)), where
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_no_panel_lies_over_another(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        here = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not here & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= here
