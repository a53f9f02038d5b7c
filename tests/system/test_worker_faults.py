"""The solver's process is killed, hung and out of memory, beside a real Envoy under load."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eigenmesh.v1 import mesh_pb2 as pb

from .conftest import Stack
from .test_reload import write
from .test_sidecar import LIGHT

SETTINGS = {"mode": "auto", "interval": "1s", "solve_timeout": "6s"}
CIRCUITS = {"born-machine", "qaoa"}


def circuits(sidecar: int) -> int:
    """The one of its children that has the circuit simulator."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            simulates = parent == sidecar and "lightning" in (stat.parent / "maps").read_text()
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
        if simulates:
            found.append(int(stat.parent.name))
    [pid] = found
    return pid


def without_memory(pid: int) -> None:
    """Not a page more than it has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))


@pytest.mark.parametrize("stack", [{"settings": SETTINGS}], indirect=True)
async def test_a_tick_goes_on_without_the_solvers_process(stack: Stack) -> None:
    sidecar = stack.sidecar.pid
    made: list[pb.Decision] = []

    async def watch() -> None:
        async with stack.client() as client:
            async for decision in client.watch_decisions():
                made.append(decision)

    def by_circuits(decision: pb.Decision) -> bool:
        """Every circuit has had its answer."""
        answered = {c.solver for c in decision.candidates if "error" not in c.detail}
        return answered >= CIRCUITS

    async def until(wanted: Callable[[pb.Decision], bool], what: str) -> pb.Decision:
        """The first decision from now on that is as wanted."""
        first, deadline = len(made), time.monotonic() + 90.0
        while not (found := [decision for decision in made[first:] if wanted(decision)]):
            assert time.monotonic() < deadline, (what, [d.why for d in made[first:]])
            assert not watcher.done(), what
            await asyncio.sleep(0.1)
        return found[0]

    await stack.load.begin("run", LIGHT, seed=8)
    watcher = asyncio.create_task(watch())
    try:
        for name, end in (("killed", signal.SIGKILL), ("hung", signal.SIGSTOP)):
            await until(by_circuits, f"the circuits do not answer before they are {name}")
            pid = circuits(sidecar)
            os.kill(pid, end)
            # It takes the classical plan or holds, and says why, in the tick's own time.
            seen = await until(lambda d: not by_circuits(d), f"nobody noticed that it is {name}")
            lost = {c.solver for c in seen.candidates if "error" in c.detail}
            classical = {c.solver for c in seen.candidates} - CIRCUITS
            assert (lost == CIRCUITS and classical) or "the solver failed" in seen.why, seen
            await until(by_circuits, f"the circuits do not come back after they were {name}")
            assert circuits(sidecar) != pid

        # What it has suffices for what it does; so it is asked for more.
        without_memory(circuits(sidecar))
        write(stack, stack.settings | {"circuits": {"shots": 50_000_000}})
        seen = await until(lambda d: not by_circuits(d), "nobody noticed that memory is out")
        errors = [c.detail["error"] for c in seen.candidates if "error" in c.detail]
        assert errors or "the solver failed" in seen.why, seen
        write(stack, stack.settings)
        await until(by_circuits, "the circuits do not come back after memory was out")
    finally:
        watcher.cancel()
    numbers = [decision.number for decision in made]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a tick was lost"
