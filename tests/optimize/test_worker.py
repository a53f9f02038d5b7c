"""The real worker process: it solves, hangs, is killed, and outlives nobody."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eigenmesh.optimize import Problem, SolverError, Worker
from eigenmesh.optimize.problem import CircuitSettings

Make = Callable[..., Problem]


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for the condition, or fails."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_solves_on_one_thread_and_ignores_ctrl_c(make_demo: Make) -> None:
    environment = dict(os.environ)
    handlers = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    async with Worker() as worker:
        assert handlers == (
            signal.getsignal(signal.SIGINT),
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        )
        assert dict(os.environ) == environment
        assert worker.ready
        assert worker.pid is not None
        child = Path(f"/proc/{worker.pid}")
        inherited = (child / "environ").read_bytes().split(b"\0")
        assert b"OMP_NUM_THREADS=1" in inherited
        assert b"OPENBLAS_NUM_THREADS=1" in inherited
        os.kill(worker.pid, signal.SIGINT)
        solution = await worker.solve(make_demo(), 30.0)
        assert solution.objective < solution.incumbent_objective
        assert {c.solver for c in solution.candidates} >= {"born-machine", "qaoa"}
        # Solves asked for at once take turns.
        both = await asyncio.gather(*(worker.solve(make_demo(seed=s), 30.0) for s in (1, 2)))
        assert both[0].objective == pytest.approx(both[1].objective, rel=1e-3)
        assert worker.restarts == 0
        pid = worker.pid
    assert not is_running(pid)
    assert not worker.ready
    with pytest.raises(SolverError, match="closed"):
        await worker.solve(make_demo(), 1.0)


async def test_a_hung_and_a_killed_worker_are_replaced(make_demo: Make) -> None:
    async with Worker() as worker:
        hung = worker.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(SolverError, match=r"0\.2 s"):
            await worker.solve(make_demo(), 0.2)
        assert worker.restarts == 1
        await until(lambda: not is_running(hung))
        # The new one is warming up; that is no reason to replace it again.
        with pytest.raises(SolverError, match="warming up"):
            await worker.solve(make_demo(), 0.01)
        assert worker.restarts == 1
        await worker.start()
        killed = worker.pid
        assert killed not in (None, hung)
        assert killed is not None
        os.kill(killed, signal.SIGSTOP)
        solving = asyncio.create_task(worker.solve(make_demo(), 30.0))
        await asyncio.sleep(0.1)
        assert not solving.done()
        os.kill(killed, signal.SIGKILL)
        # What is left of the time goes to the classical solvers.
        solution = await solving
        assert solution.objective < solution.incumbent_objective
        errors = {c.solver: c.detail["error"] for c in solution.candidates if "error" in c.detail}
        assert errors.keys() == {"born-machine", "qaoa"}
        assert all("died" in str(error) for error in errors.values())
        assert {c.solver for c in solution.candidates if c.won} <= {"newton", "slsqp", "exhaustive"}
        solution = await worker.solve(make_demo(), 60.0)
        assert solution.objective < solution.incumbent_objective
        assert worker.restarts == 2


async def test_closing_ends_a_solve_under_way(make_demo: Make) -> None:
    worker = Worker()
    solving = asyncio.create_task(worker.solve(make_demo(), 30.0))
    await asyncio.sleep(0.2)
    await worker.close()
    with pytest.raises(SolverError):
        await solving
    assert worker.restarts == 0


async def test_a_process_that_does_not_start_in_time_is_replaced(make_demo: Make) -> None:
    worker = Worker(startup_timeout=0.05)
    try:
        with pytest.raises(SolverError, match="warming up"):
            await worker.start()
        assert worker.restarts == 1
    finally:
        await worker.close()


async def test_a_solve_that_fails_is_an_error_and_the_worker_goes_on(make_demo: Make) -> None:
    problem = make_demo()
    # Past the checks, as no caller could: what the child raises must come back in one piece.
    object.__setattr__(problem, "curves", {})
    async with Worker() as worker:
        pid = worker.pid
        with pytest.raises(SolverError, match="KeyError"):
            await worker.solve(problem, 30.0)
        assert (await worker.solve(make_demo(), 30.0)).objective > 0
        assert worker.pid == pid
        assert worker.restarts == 0


PARENT = """
import asyncio
from eigenmesh.optimize import Worker

async def main():
    worker = Worker()
    await worker.start()
    print(worker.pid, flush=True)
    await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_the_worker_ends_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
    finally:
        parent.kill()
        parent.wait()
    end = time.monotonic() + 20.0
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_running(pid)


def test_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(SolverError("field", 3, "do this")))
    assert (error.field, error.value, error.remedy) == ("field", 3, "do this")
    assert str(error) == "field: 3: do this"


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("no.such.device", "install its PennyLane plugin"),
        ("test.hangs", "solver timeout: 6.0 s"),
        ("test.hangs.pool", "solver timeout: 6.0 s"),
    ],
)
async def test_without_a_working_device_the_classical_plan_is_taken(
    make_demo: Make, device: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are a plugin that PennyLane really loads, in the real child process."""
    info = tmp_path / "hangs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hangs\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[pennylane.plugins]\ntest.hangs = hangs:Hangs\ntest.hangs.pool = hangs:HangsInPool\n"
    )
    (tmp_path / "hangs.py").write_text(HANGS)
    monkeypatch.syspath_prepend(str(tmp_path))  # spawned children get their parent's path
    async with Worker() as worker:
        problem = make_demo(circuits=CircuitSettings(device=device, pool=2, max_qubits=4))
        started = time.monotonic()
        solution = await worker.solve(problem, 6.0)
        assert time.monotonic() - started < 6.0
        assert solution.objective < solution.incumbent_objective
        lost = {
            c.solver: str(c.detail["error"]) for c in solution.candidates if "error" in c.detail
        }
        assert lost.keys() == {"born-machine", "qaoa"}
        assert all(words in error for error in lost.values()), lost
        assert not any(c.won for c in solution.candidates if c.solver in lost)
        assert worker.restarts == (device != "no.such.device")
        assert (tmp_path / device).exists() == (device != "no.such.device")


HANGS = """
import threading
import time
from pathlib import Path

from pennylane.devices import DefaultQubit, Device


def hang(name):
    Path(__file__).with_name(name).touch()
    time.sleep(3600)


class Hangs(Device):
    name = "test.hangs"

    def execute(self, circuits, execution_config=None):
        hang(self.name)


class HangsInPool(DefaultQubit):
    name = "test.hangs.pool"

    def execute(self, circuits, execution_config=None):
        if threading.current_thread() is not threading.main_thread():
            hang(self.name)
        return super().execute(circuits, execution_config)
"""
