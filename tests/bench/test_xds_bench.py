"""The xDS bench runs, loses no stream, and writes what it says. Nothing here depends on time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
STREAMS = 20
CASES = {"20 streams": STREAMS, "6 routes": 3, "5 virtual hosts": 3, "7 weighted clusters": 3}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one small run has written."""
    folder = tmp_path_factory.mktemp("bench")
    options = {
        "streams": STREAMS,
        "repetitions": 1,
        "pushes": 1,
        "routes": 6,
        "hosts": 5,
        "splits": 7,
        "few": 3,
        "settling": 0.1,
        "results": folder,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.xds.run", *(f"--{k}={v}" for k, v in options.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def document(results: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((results / "xds.json").read_text())
    return loaded


def test_every_case_was_tried_on_both_servers(document: dict[str, Any]) -> None:
    tried = {(t["case"]["name"], t["server"]) for t in document["trials"]}
    assert tried == {(case, server) for case in CASES for server in ("floor", "eigenmesh")}
    assert document["failures"] == []


def test_every_stream_acknowledged_every_push(document: dict[str, Any]) -> None:
    for trial in document["trials"]:
        streams = CASES[trial["case"]["name"]]
        assert trial["connect"]["errors"] == []
        assert len(trial["pushes"]) == 1
        for push in [*trial["pushes"], *trial.get("stalled_pushes", [])]:
            assert push["acks"] == streams
            assert push["missing"] == 0
            assert push["versions"] == 1
            assert push["errors"] == []


def test_a_client_that_never_reads_is_among_the_fleet(document: dict[str, Any]) -> None:
    fleet = [t for t in document["trials"] if t["case"]["name"] == "20 streams"]
    assert [len(t["stalled_pushes"]) for t in fleet] == [1, 1]
    assert all(len(t["stalled_ends"]) == 1 for t in fleet)


def test_both_servers_push_the_same_amount(document: dict[str, Any]) -> None:
    """Else the floor would be a floor of something else."""
    for case in CASES:
        sizes = [t["pushes"][0]["bytes"] for t in document["trials"] if t["case"]["name"] == case]
        assert min(sizes) > 0
        assert max(sizes) - min(sizes) < 0.05 * max(sizes) + 60


def test_what_was_measured_is_there(document: dict[str, Any]) -> None:
    assert {"cores", "python", "grpcio"} <= document["machine"].keys()
    for trial in document["trials"]:
        assert trial["memory"].keys() >= {"before", "idle", "per_stream", "after_pushes"}
        assert {"total", "seconds_p50", "seconds_p99", "cpu"} <= trial["connect"].keys()
        push = trial["pushes"][0]
        measured = {"acked_p50", "acked_p99", "acked_max", "last_ack", "cpu", "change", "send"}
        assert all(push[name] is not None for name in measured | {"worst_lag", "client_cpu"})
        assert 0 < push["acked_p50"] <= push["acked_p99"] <= push["acked_max"]
        if trial["server"] == "eigenmesh":
            assert trial["ready"].keys() == {"parsing", "first_snapshot"}


def test_the_table_and_the_plot_name_every_case(results: Path) -> None:
    table = (results / "xds.md").read_text()
    assert all(f"| {case} |" in table for case in CASES)
    assert "0 trials failed" in table
    plot = ElementTree.fromstring((results / "xds.svg").read_text())
    assert plot.tag.endswith("svg")
    labels = [element.text for element in plot.iter() if element.tag.endswith("text")]
    assert "last ACK, Eigenmesh" in labels
    assert "event loop, routes" in labels
