"""The page bench runs and writes what it says. Nothing here depends on time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_looks_at_every_size(tmp_path: Path) -> None:
    options = ["--clusters", "7,10", "--seconds", "1", "--results", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-m", "bench.page", *options], cwd=ROOT, check=True, timeout=120
    )
    meshes = json.loads((tmp_path / "page.json").read_text())["meshes"]
    assert [one["clusters"] for one in meshes] == [7, 10]
    for one in meshes:
        assert one["frames"]
        assert one["empty page"]
        assert one["drawing"]
        assert one["view bytes"] > 1000
