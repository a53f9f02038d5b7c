"""The whole demo with real processes, and the ways in which it may be cut short."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from eigenmesh.demo import phases
from eigenmesh.demo.outcome import ROWS


def start(folder: Path, *, prometheus: bool = False) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path\n"
        "from eigenmesh.demo.run import Options, run_demo\n"
        f"sys.exit(run_demo(Options(fast=True, prometheus={prometheus}, "
        f"folder=Path({str(folder)!r}))))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def descendants(root: int) -> dict[int, str]:
    """Pid -> command line of every process below `root`."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                pid = int(entry.name)
                parents[pid] = parent_of(pid)
                names[pid] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
    below: dict[int, str] = {}
    layer = {root}
    while layer := {p for p, parent in parents.items() if parent in layer}:
        below |= {p: names[p] for p in layer}
    return below


def alive(pids: dict[int, str]) -> dict[int, str]:
    still = {}
    for pid, name in pids.items():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "Z":
            still[pid] = name
    return still


def test_a_run_measures_every_policy_and_leaves_its_files(tmp_path: Path) -> None:
    demo = start(tmp_path, prometheus=True)
    output, _ = demo.communicate(timeout=120)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert demo.returncode == (0 if summary["ok"] else 1), output
    assert set(ROWS) <= set(summary["phases"])
    # The phases are short and the machine is shared: what is asserted is what must always hold.
    says = {check["says"].split(":")[0]: check["ok"] for check in summary["checks"]}
    assert says["Envoy's counters of broken connections, resets and refused updates"], output
    assert summary["pushes"] > 0, output
    for name in phases.STEERED_PHASES:
        assert summary["phases"][name]["failed"] == 0, output
    requests = np.load(tmp_path / "requests.npz")
    for phase in phases.script(phases.FAST):
        count = summary["phases"][phase.name]["requests"]
        assert count == len(requests[f"{phase.name}/latency"]) > 100 * phase.seconds
    same = [requests[f"{p}/offset"][:500] for p in (phases.ORACLE, phases.LEAST_REQUEST)]
    assert np.array_equal(*same)
    decisions = (tmp_path / "decisions.jsonl").read_text().splitlines()
    assert sum(json.loads(d)["action"] == "ACTION_PUSH" for d in decisions) == summary["pushes"]
    assert str(tmp_path / "report.html") in output
    assert (tmp_path / "report.html").stat().st_size > 20_000
    assert "with Eigenmesh" in output


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, None),
        (signal.SIGTERM, phases.WARM_UP),
        (signal.SIGKILL, phases.WARM_UP),
    ],
)
def test_whatever_ends_it_no_process_stays(
    tmp_path: Path, number: signal.Signals, moment: str | None
) -> None:
    demo = start(tmp_path)
    assert demo.stdout is not None
    if moment is None:
        while not descendants(demo.pid):  # as early as can be
            time.sleep(0.01)
            assert demo.poll() is None
    else:
        for line in demo.stdout:
            if f"phase: {moment}:" in line:
                break
    children = descendants(demo.pid)
    assert children, demo.stdout.read()
    demo.send_signal(number)
    rest = demo.stdout.read() if number is not signal.SIGKILL else ""
    status = demo.wait(20)
    demo.stdout.close()
    deadline = time.monotonic() + 15.0
    while alive(children):
        assert time.monotonic() < deadline, alive(children)
        time.sleep(0.05)
    if number is signal.SIGKILL:
        assert status == -signal.SIGKILL
        assert len(children) >= 6  # three upstreams, Eigenmesh, Envoy, the load
    else:
        assert status == 130, rest
        assert "every process has been stopped" in rest
