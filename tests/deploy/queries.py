"""Every query that Grafana's dashboards send, and what Prometheus answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

_FOLDER = Path(__file__).parents[2] / "deploy/grafana/dashboards"
BOARDS: list[dict[str, Any]] = [
    json.loads(path.read_text()) for path in sorted(_FOLDER.glob("*.json"))
]


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(where, PromQL as it is written) of panels, annotations and variables."""
    title = board["title"]
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield f"{title} / {panel['title']} / {target['refId']}", target["expr"]
    for mark in board["annotations"]["list"]:
        yield f"{title} / {mark['name']}", mark["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"{title} / ${variable['name']}", variable["query"]


def resolved(query: str, mesh: str) -> str:
    """As Grafana sends it at a scrape interval of a second."""
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
    if asked:
        query = f"count by ({asked[2]}) ({asked[1]})"
    return query.replace("$mesh", mesh).replace("$__rate_interval", "4s")


def answer(url: str, query: str, seconds: float) -> list[dict[str, Any]]:
    """Series of the last `seconds`. Raises urllib's HTTPError for a query that is none."""
    now = time.time()
    asked = urlencode({"query": query, "start": now - seconds, "end": now, "step": "2s"})
    with urlopen(f"{url}/api/v1/query_range?{asked}", timeout=10) as response:
        content = json.load(response)
    assert content["status"] == "success"
    result: list[dict[str, Any]] = content["data"]["result"]
    return result
