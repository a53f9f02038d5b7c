"""The scrape bench runs and writes what it says. Nothing here depends on time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_reads_every_way(tmp_path: Path) -> None:
    options = ["--clusters", "3", "--repetitions", "2", "--results", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-m", "bench.scrape", *options], cwd=ROOT, check=True, timeout=120
    )
    results = json.loads((tmp_path / "scrape.json").read_text())
    assert results["bytes"]["full page"] > results["bytes"]["filtered page"] > 0
    ways = [f"{p} page{w}" for p in ("full", "filtered") for w in ("", ", prometheus_client")]
    ways += [
        f"{s}, {w}" for s in ("direct scrape", "Prometheus") for w in ("whole tick", "nothing")
    ]
    for way in ways:
        one = results["read"][way]
        assert len(one["seconds"]) == len(one["longest delay of the event loop"]) == 2
