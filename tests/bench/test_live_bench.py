"""The live bench of the curves runs and says what it promises. Nothing here depends on time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {"direct", "Prometheus, 1 s", "Prometheus, 5 s"}


def test_it_watches_by_every_source(tmp_path: Path) -> None:
    options = ["--tiny", "--results", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-m", "bench.estimator.live", *options], cwd=ROOT, check=True, timeout=120
    )
    results = json.loads((tmp_path / "estimator_live.json").read_text())
    # The rarest windows may be none in so short a time; those of the direct scrape are many.
    direct = [c for c in results["cases"] if c["source"] == "direct"]
    assert {(c["upstream"], c["utilisation"]) for c in direct} == {
        (name, at) for name in "abc" for at in (0.6, 0.75)
    }
    for case in direct:
        loads = {"0.5", "0.8", "1.0", "1.2"} | ({"1.5"} if case["utilisation"] == 0.6 else set())
        assert set(case["truth"]) == loads
        assert all(set(predicted) == loads for predicted in case["predicted"].values())
    assert all(t["failed"] == 0 for each in results["truths"].values() for t in each.values())
    found = {(c["event"], c["source"]): c["curves"] for c in results["changes"]}
    assert set(found) == {(event, s) for event in ("halved", "healed") for s in SOURCES}
    assert found["halved", "direct"]
    assert "| halved | direct |" in (tmp_path / "estimator_live.md").read_text()
