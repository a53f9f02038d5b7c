"""The tick bench runs and writes what it says. Nothing here depends on time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_reads_both_ways(tmp_path: Path) -> None:
    options = ["--clusters", "2", "--proxies", "3", "--repetitions", "1"]
    command = [sys.executable, "-m", "bench.tick", *options, "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    results = json.loads((tmp_path / "tick.json").read_text())
    sizes = {name: one["bytes"][0] for name, one in results["ticks"].items()}
    assert sizes["series of every proxy"] > 2 * sizes["recorded series"] > 0
