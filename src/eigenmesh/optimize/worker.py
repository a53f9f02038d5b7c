"""The process that solves, so that the event loop never does.

PennyLane takes seconds to import and a solve takes tens of milliseconds or more; both happen in
one child process, which stays warm. It is replaced when it dies or does not answer in time; what
is left of the time then goes to a second one, that runs the classical solvers only and needs no
PennyLane. Both compute on one thread, ignore Ctrl-C (their parent decides when they end) and end
with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any

from eigenmesh.mesh import Candidate
from eigenmesh.optimize import portfolio
from eigenmesh.optimize.problem import Problem, Solution

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


CIRCUITS_SHARE = 0.6
"""Of a solve's time, after which a device that hangs is given up for the classical solvers."""


class SolverError(RuntimeError):
    """The worker gave no plan. The incumbent stays; the next solve may work."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}: {value}: {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.remedy)


class Worker:
    """One solver process. All methods belong to one event loop.

    startup_timeout: seconds that the process may take to start and warm up before it is replaced.
    """

    def __init__(self, *, startup_timeout: float = 120.0) -> None:
        self.startup_timeout = startup_timeout
        self.restarts = 0
        self._executor: ProcessPoolExecutor | None = None
        self._spare: ProcessPoolExecutor | None = None
        self._warm: asyncio.Future[int] | None = None
        self._spawned_at = 0.0
        self._closed = False
        self._turn = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether the process is warm: a solve starts at once."""
        return self._warm is not None and self._warm.done() and self._failure() is None

    @property
    def pid(self) -> int | None:
        """Process id of the warm worker."""
        return self._warm.result() if self._warm is not None and self.ready else None

    async def start(self) -> None:
        """Starts the process and waits until it is warm (4 s when idle). Raises SolverError."""
        async with self._turn:
            await self._wait_warm(self.startup_timeout)

    async def solve(self, problem: Problem, timeout: float) -> Solution:
        """The solution, within `timeout` seconds of this call's turn; solves take turns.

        If the process with the circuits is still warming up (it goes on), does not answer in time
        or dies (it is replaced), the solution is the classical solvers', and its candidates name
        the error. Raises SolverError when there is no solution at all.
        """
        loop = asyncio.get_running_loop()
        async with self._turn:
            started = loop.time()
            try:
                return await self._try(problem, timeout)
            except SolverError as error:
                spent = loop.time() - started
                if self._closed or error.field == "solve" or problem.solver == "classical":
                    raise
                return await self._without_circuits(problem, timeout - spent, spent, error)

    async def _try(self, problem: Problem, timeout: float) -> Solution:
        share = 1.0 if problem.solver == "classical" else CIRCUITS_SHARE
        loop = asyncio.get_running_loop()
        deadline = loop.time() + share * timeout
        executor = await self._wait_warm(share * timeout)
        try:
            future = executor.submit(_solve, problem)
            left = max(0.0, deadline - loop.time())
            return await asyncio.wait_for(asyncio.wrap_future(future), left)
        except TimeoutError:
            self._replace()
            raise SolverError(
                "solver timeout", f"{timeout} s", "raise it, or use solver: classical"
            ) from None
        except BrokenExecutor:
            self._replace()
            raise SolverError(
                "solver process", "died", "a new one is starting; see its standard error"
            ) from None

    async def _without_circuits(
        self, problem: Problem, left: float, spent: float, error: SolverError
    ) -> Solution:
        """The classical solvers' solution, with the error among its candidates."""
        if self._spare is None:
            self._spare = _executor()
        with _inherited():
            future = self._spare.submit(_solve, replace(problem, solver="classical"))
        try:
            found = await asyncio.wait_for(asyncio.wrap_future(future), max(0.0, left))
        except (TimeoutError, BrokenExecutor):
            if self._spare is not None:
                _kill(self._spare)
                self._spare.shutdown(wait=False)
                self._spare = None
            raise error from None
        detail = {"error": str(error)}
        names = (("weights", "born-machine"), ("limits", problem.circuits.algorithm))
        lost = (
            Candidate(part, name, found.incumbent_objective, spent, detail=detail)
            for part, name in names
        )
        return replace(found, candidates=(*lost, *found.candidates))

    async def close(self) -> None:
        """Ends the processes. A solve under way raises SolverError."""
        self._closed = True
        ended = [executor for executor in (self._executor, self._spare) if executor is not None]
        self._executor = self._spare = self._warm = None
        for executor in ended:
            _kill(executor)
        for executor in ended:
            # Reaps the process; its threads end with it, but not at once.
            await asyncio.to_thread(executor.shutdown, wait=True)

    async def __aenter__(self) -> Worker:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _wait_warm(self, patience: float) -> ProcessPoolExecutor:
        if self._closed:
            raise SolverError("solver process", "closed", "make a new Worker")
        if self._executor is None:
            self._spawn()
        assert self._warm is not None
        await asyncio.wait({self._warm}, timeout=patience)
        if self.ready and self._executor is not None:
            return self._executor
        if self._closed:
            raise SolverError("solver process", "closed", "make a new Worker")
        if self._warm is not None and self._warm.done():
            failure = self._failure()
            self._replace()
            raise SolverError(
                "solver process", f"did not start ({failure})", "see its standard error"
            )
        spent = asyncio.get_running_loop().time() - self._spawned_at
        if spent >= self.startup_timeout:
            self._replace()
        raise SolverError(
            "solver process", f"still warming up after {spent:.1f} s", "ask again later"
        )

    def _failure(self) -> BaseException | None:
        if self._warm is None or not self._warm.done():
            return None
        if self._warm.cancelled():
            return asyncio.CancelledError()
        return self._warm.exception()

    def _spawn(self) -> None:
        """Starts a process that warms itself up; returns at once."""
        self._executor = _executor()
        with _inherited():
            warm = self._executor.submit(_warm_up)
        self._spawned_at = asyncio.get_running_loop().time()
        self._warm = asyncio.wrap_future(warm)
        # A failure nobody waited for is no news: the next solve finds it.
        self._warm.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _replace(self) -> None:
        executor, self._executor, self._warm = self._executor, None, None
        if executor is not None:
            _kill(executor)
            executor.shutdown(wait=False)
        if not self._closed:
            self.restarts += 1
            self._spawn()


def _executor() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_enter)


def _kill(executor: ProcessPoolExecutor) -> None:
    # The pool has no public way to end a process that does not answer (before Python 3.14).
    for process in list((executor._processes or {}).values()):
        process.kill()


@contextlib.contextmanager
def _inherited() -> Iterator[None]:
    """What a child started in here inherits: one thread, and Ctrl-C blocked from its first
    instruction. Numerical libraries read the former when they load, before any of our code."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


# What follows runs in the child.


def _enter() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end us, and the pool's own pipe would not: we hold both its ends.

    (Linux' PR_SET_PDEATHSIG watches the thread that started us, not the process: too early.)
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
    os._exit(1)


def _warm_up() -> int:
    portfolio.warm_up()
    return os.getpid()


def _solve(problem: Problem) -> Solution:
    try:
        return portfolio.solve(problem)
    except Exception as error:
        # Some exceptions do not survive pickling, and one that does not breaks the pool.
        raise SolverError(
            "solve", f"{type(error).__name__}: {error}", "report this with the problem"
        ) from None
