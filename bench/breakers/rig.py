"""The running processes of one variant, what is done to them, and what is seen of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.breakers.rule import Rule, RuleController
from bench.breakers.setup import ROUTE, SLO, Bed, Ports, Variant, envoy, settings
from eigenmesh.demo.loadgen import LoadGenerator, Record
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, ProcessError, http_get

_LIMIT = re.compile(r"^(.+)::default_priority::max_requests::(\d+)$", re.MULTILINE)

Figures = dict[str, list[Any]]
"""Columns of one variant's raw figures: a list each, one entry a window or a sample."""


@dataclass(frozen=True)
class Event:
    """What happens `at` seconds after the start, to every variant alike.

    rates: requests/s by proxy from now on. knobs: upstream -> query of its `/_control`.
    kill: the proxy that dies.
    """

    at: float
    rates: Sequence[float] | None = None
    knobs: Mapping[str, str] = field(default_factory=dict)
    kill: int | None = None


def background(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Runs it until the stack is left."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)


class Rig:
    """`async with` starts and stops the processes of `variant`.

    folder: for logs and Eigenmesh's journal. shape: of the service demands' gamma distribution.
    repetition: its number, from which the seeds of the loads are.
    """

    def __init__(
        self,
        bed: Bed,
        variant: Variant,
        folder: Path,
        *,
        repetition: int,
        shape: float,
        sampling: float,
    ) -> None:
        self.variant = variant
        self._bed = bed
        self._folder = folder
        self._repetition = repetition
        self._shape = shape
        self._sampling = sampling
        self._ports = Ports.of(bed)
        self._envoys: list[EnvoyProcess] = []
        self._loads: list[LoadGenerator] = []
        self._samples: Figures = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Rig:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        bed, ports, variant = self._bed, self._ports, self.variant
        python = sys.executable
        for u in bed.upstreams:
            port = ports.upstreams[u.name]
            argv = [python, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
            argv += ["--slots", str(u.slots), "--service-time", str(u.service_time)]
            await self._enter(ChildProcess(u.name, argv, log=self._log(u.name), ready_port=port))
        if variant.control == "eigenmesh":
            file = self._folder / "eigenmesh.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            document = settings(bed, variant, ports, self._folder)
            file.write_text(yaml.safe_dump(document, sort_keys=False))
            await self._enter(
                ChildProcess(
                    "eigenmesh",
                    [python, "-m", "eigenmesh", "run", "-c", str(file)],
                    log=self._log("eigenmesh"),
                    ready_port=ports.http,
                    ready_path="/healthz",
                    ready_timeout=60.0,
                    death_signal=signal.SIGTERM,  # so that it can end its worker
                )
            )
        for proxy in range(bed.proxies):
            process = EnvoyProcess(
                envoy(bed, variant, ports, proxy),
                ports.admins[proxy],
                log=self._log(f"envoy-{proxy + 1}"),
            )
            await self._enter(process)
            self._envoys.append(process)
            load = LoadGenerator(ports.envoys[proxy], log=self._log(f"load-{proxy + 1}"))
            await self._stack.enter_async_context(load)
            self._loads.append(load)
        if variant.control == "rule":
            for process in self._envoys:
                rules = {
                    name: Rule.at(limits["max_requests"], variant.smoothing, SLO)
                    for name, limits in variant.limits.items()
                }
                background(self._stack, RuleController(process, rules).run())

    async def play(self, event: Event, number: int) -> None:
        """Let it happen; `number` tells events, and the seeds of their loads, apart."""
        if event.kill is not None:
            await asyncio.to_thread(self._envoys[event.kill].kill)
        for name, query in event.knobs.items():
            await self._control(name, query)
        if event.rates is not None:
            for proxy, (load, rate) in enumerate(zip(self._loads, event.rates, strict=True)):
                # The same for every variant, another one in every repetition.
                seed = 1_000_000 * self._repetition + 1000 * number + proxy
                await load.begin(str(number), {ROUTE: rate}, seed=seed, shape=self._shape)

    def watch(self, began: float) -> None:
        """Sample from now on; times count from unix time `began`."""
        for load in self._loads:
            load.lags.clear()
        background(self._stack, self._sample(began))

    async def quiet(self, patience: float) -> None:
        """Send nothing more; what has no answer after `patience` seconds is unanswered."""
        for load in self._loads:
            await load.begin("quiet", {}, seed=0)
        await asyncio.sleep(patience)
        for load in self._loads:
            await load.close()
        await asyncio.sleep(0.3)  # the last batch

    @property
    def lags(self) -> list[float]:
        """Actual minus intended send time of every request since `watch`, in seconds."""
        return [lag for load in self._loads for lag in load.lags]

    @property
    def records(self) -> list[Record]:
        return [record for load in self._loads for record in load.records]

    @property
    def samples(self) -> Figures:
        return self._samples

    # ------------------------------------------------------------------

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    async def _enter(self, process: ChildProcess) -> None:
        await self._stack.enter_async_context(process)

    async def _control(self, name: str, query: str = "") -> dict[str, float]:
        port = self._ports.upstreams[name]
        status, body = await asyncio.to_thread(http_get, port, f"/_control?{query}")
        if status != 200:
            raise ProcessError(f"upstream {name}: /_control?{query}: {body}")
        state: dict[str, float] = json.loads(body)
        return state

    async def _sample(self, began: float) -> None:
        """Columns: `time`; `limit <proxy> <cluster>`, as Envoy enforces it, None once it is dead;
        `in flight <upstream>` and `arrived <upstream>`, as that counts them, retries included."""
        due = time.time()
        while True:
            row: dict[str, Any] = {"time": round(time.time() - began, 3)}
            states = await asyncio.gather(*(self._control(u.name) for u in self._bed.upstreams))
            for u, state in zip(self._bed.upstreams, states, strict=True):
                row[f"in flight {u.name}"] = state["in_flight"]
                row[f"arrived {u.name}"] = state["arrived"]
            for proxy, process in enumerate(self._envoys):
                limits: dict[str, int] = {}
                if process.running():
                    with contextlib.suppress(OSError, ProcessError):
                        text = await asyncio.to_thread(process.admin, "/clusters")
                        limits = {name: int(limit) for name, limit in _LIMIT.findall(text)}
                for name in self._bed.clusters(self.variant):
                    row[f"limit {proxy + 1} {name}"] = limits.get(name)
            for column, value in row.items():
                self._samples.setdefault(column, []).append(value)
            due += self._sampling
            await asyncio.sleep(max(0.0, due - time.time()))
