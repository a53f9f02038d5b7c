"""The demo from start to end: processes, phases, figures, report."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import grpc
import yaml

from eigenmesh.api.client import MeshClient
from eigenmesh.demo import phases, stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.messages import weights
from eigenmesh.demo.oracle import Upstream
from eigenmesh.demo.outcome import Outcome, conclude, save
from eigenmesh.demo.phases import Phase, Timing
from eigenmesh.demo.probe import LiveProbe, harm
from eigenmesh.demo.processes import (
    ChildProcess,
    EnvoyProcess,
    ProcessError,
    PrometheusProcess,
    envoy_binary,
    http_get,
)
from eigenmesh.demo.report import write_report
from eigenmesh.demo.scene import Sample, Scene
from eigenmesh.demo.view import View, show_results

CLUSTERS = tuple(u.name for u in stage.UPSTREAMS)
PROBE_SECONDS = 0.5


@dataclass(frozen=True)
class Options:
    """prometheus: telemetry by a real Prometheus. fast: short phases, for tests; its figures mean
    little. folder: where the run's files go (default: runs/demo-<time>)."""

    prometheus: bool = False
    fast: bool = False
    folder: Path | None = None


def run_demo(options: Options) -> int:
    """Runs the demo in this process' main thread; returns its exit status.

    0: Eigenmesh improved on equal weights and no request failed because of a push; 1: not so;
    2: it could not be run (the reason is printed); 130: interrupted.
    """
    try:
        envoy_binary()  # said before anything is started
        return asyncio.run(_until_signal(options))
    except (ProcessError, OSError) as error:
        print(f"eigenmesh demo: {error}", file=sys.stderr)
        return 2


async def _until_signal(options: Options) -> int:
    loop = asyncio.get_running_loop()
    demo = asyncio.create_task(Demo(options).run())
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only once: the second Ctrl-C of an impatient hand must not cut the cleaning up short.
        loop.add_signal_handler(number, asked.set)
    waiter = asyncio.create_task(asked.wait())
    await asyncio.wait({demo, waiter}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if asked.is_set() and not demo.done():
        demo.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await demo
        print("eigenmesh demo: interrupted; every process has been stopped", file=sys.stderr)
        return 130
    outcome = await demo
    return 0 if outcome.ok else 1


class Demo:
    """One run."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._timing: Timing = phases.FAST if options.fast else phases.NORMAL
        self._ports = stage.Ports()
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self._folder = options.folder or Path("runs") / f"demo-{stamp}"
        self._scene = Scene(total=phases.total_seconds(self._timing))
        self._began: dict[str, float] = {}

    async def run(self) -> Outcome:
        self._folder.mkdir(parents=True, exist_ok=True)
        view = View(self._scene)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(view)
            load, envoy, mesh = await self._start(stack)
            outcome = await self._play(load, envoy, mesh)
        save(outcome)
        report = write_report(outcome)
        show_results(outcome, report)
        return outcome

    # ------------------------------------------------------------------ processes

    async def _start(self, stack: AsyncExitStack) -> tuple[LoadGenerator, EnvoyProcess, MeshClient]:
        scene, ports, logs = self._scene, self._ports, self._folder / "logs"
        settings = self._folder / "eigenmesh.yaml"
        document = stage.settings(
            ports, self._folder / "journal.sqlite", prometheus=self._options.prometheus
        )
        settings.write_text(yaml.safe_dump(document, sort_keys=False))
        scene.status = "Starting three upstreams and Eigenmesh."
        upstreams = [self._upstream(u.name, u.slots, u.service_time) for u in stage.UPSTREAMS]
        eigenmesh = ChildProcess(
            "eigenmesh",
            [sys.executable, "-m", "eigenmesh", "run", "-c", str(settings)],
            log=logs / "eigenmesh.log",
            ready_port=ports.http,
            ready_path="/readyz",
            ready_timeout=30.0,
            death_signal=signal.SIGTERM,  # so that it can end its worker
        )
        _start_all(stack, [*upstreams, eigenmesh])
        bootstrap = await self._bootstrap(settings)  # they come up meanwhile
        await _all_ready([*upstreams, eigenmesh])
        scene.status = "Starting Envoy."
        envoy = EnvoyProcess(bootstrap, ports.admin, log=logs / "envoy.log")
        proxies: list[ChildProcess] = [envoy]
        if self._options.prometheus:
            scene.status = "Starting Envoy and Prometheus."
            target = f"127.0.0.1:{ports.admin}"
            proxies.append(
                PrometheusProcess([target], ports.prometheus, log=logs / "prometheus.log")
            )
        _start_all(stack, proxies)
        await _all_ready(proxies)
        load = LoadGenerator(ports.envoy, log=logs / "load.log", on_record=scene.take)
        await stack.enter_async_context(load)
        mesh = await stack.enter_async_context(MeshClient(f"127.0.0.1:{ports.api}"))
        await stack.enter_async_context(_background(self._watch(mesh)))
        await stack.enter_async_context(_background(self._sample(envoy, mesh)))
        return load, envoy, mesh

    def _upstream(self, name: str, slots: int, service_time: float) -> ChildProcess:
        port = self._ports.upstreams[name]
        argv = [
            *(sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)),
            *("--slots", str(slots), "--service-time", str(service_time)),
        ]
        log = self._folder / "logs" / f"upstream-{name}.log"
        return ChildProcess(f"upstream-{name}", argv, log=log, ready_port=port)

    async def _bootstrap(self, settings: Path) -> str:
        argv = [sys.executable, "-m", "eigenmesh", "bootstrap", "-c", str(settings)]
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            raise ProcessError(f"{' '.join(argv)}:\n{err.decode()}")
        (self._folder / "bootstrap.yaml").write_bytes(out)
        return out.decode()

    # ------------------------------------------------------------------ watching

    async def _watch(self, mesh: MeshClient) -> None:
        """Every decision, as it is made."""
        while True:
            with contextlib.suppress(grpc.RpcError):
                async for decision in mesh.watch_decisions():
                    self._scene.decided(decision)
            await asyncio.sleep(0.5)

    async def _sample(self, envoy: EnvoyProcess, mesh: MeshClient) -> None:
        """What is in force, twice a second."""
        probe = LiveProbe(envoy, CLUSTERS)
        while True:
            with contextlib.suppress(grpc.RpcError, OSError, ProcessError):
                limits, loads, active = await probe.read()
                plan = weights((await mesh.get_mesh()).plan_in_force)
                self._scene.samples.append(Sample(time.time(), plan, limits, loads, active))
            await asyncio.sleep(PROBE_SECONDS)

    # ------------------------------------------------------------------ phases

    async def _play(self, load: LoadGenerator, envoy: EnvoyProcess, mesh: MeshClient) -> Outcome:
        counters: dict[str, int] = {}
        for phase in phases.script(self._timing):
            if phase.clean:
                await self._drain(load)
            if phase.name == phases.TAKE_OVER:
                counters = await harm(envoy, CLUSTERS)
                await self._set_mode(mesh, "auto")
            if phase.name == phases.ORACLE_DEGRADED:
                after = await harm(envoy, CLUSTERS)
                counters = {name: n - counters.get(name, 0) for name, n in after.items()}
                await self._set_mode(mesh, "observe")
            if phase.name == phases.ORACLE:
                await self._control(stage.UPSTREAMS[0].name, _capacity(stage.UPSTREAMS[0]))
                self._scene.note("upstream", f"upstream {stage.UPSTREAMS[0].name} is healed")
            await self._run_phase(phase, load)
            if phase.name == phases.WARM_UP:
                await self._first_look()
        await self._drain(load)
        return conclude(
            folder=self._folder,
            timing=self._timing,
            load=load,
            scene=self._scene,
            counters=counters,
            began=self._began,
            prometheus=self._options.prometheus,
        )

    async def _run_phase(self, phase: Phase, load: LoadGenerator) -> None:
        self._scene.enter(phase)
        if phase.settle:
            # Another seed: what settles the queues is not what is measured.
            name = f"{phase.name}-settling"
            await load.begin(name, stage.rates(), seed=phase.seed + 1000, host=phase.host)
            await asyncio.sleep(phase.settle)
        self._began[phase.name] = await load.begin(
            phase.name, stage.rates(), seed=phase.seed, host=phase.host
        )
        if phase.name == phases.DEGRADED:
            degraded = stage.DEGRADED[0]
            await self._control(degraded.name, _capacity(degraded))
            self._scene.note("upstream", f"upstream {degraded.name} has degraded")
        await asyncio.sleep(phase.seconds)

    async def _drain(self, load: LoadGenerator) -> None:
        """No load for a moment, then empty queues: phases do not inherit each other's."""
        self._scene.leave()
        self._scene.status = "A pause: the queues run empty."
        await load.begin(f"drain-{time.monotonic()}", {}, seed=0)
        await asyncio.sleep(self._timing.drain)
        await load.close()
        for name in CLUSTERS:
            await self._control(name, "reset=1")

    async def _first_look(self, patience: float = 60.0) -> None:
        """Until Eigenmesh has made a decision with curves: its worker imports PennyLane first."""
        deadline = time.monotonic() + patience
        while not any(d.candidates for d in self._scene.decisions):
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"Eigenmesh made no decision within {patience:g} s: "
                    f"see {self._folder / 'logs' / 'eigenmesh.log'}"
                )
            await asyncio.sleep(0.1)

    async def _set_mode(self, mesh: MeshClient, mode: Literal["observe", "auto"]) -> None:
        try:
            await mesh.set_mode(mode)
        except grpc.aio.AioRpcError as error:
            raise ProcessError(f"Eigenmesh did not take mode {mode}: {error.details()}") from None
        self._scene.mode = mode
        says = {"auto": "Eigenmesh takes over", "observe": "Eigenmesh is told to only watch"}
        self._scene.note("eigenmesh", says[mode])

    async def _control(self, name: str, knobs: str) -> None:
        port = self._ports.upstreams[name]
        status, body = await asyncio.to_thread(http_get, port, f"/_control?{knobs}")
        if status != 200:
            raise ProcessError(f"upstream {name}: /_control?{knobs}: {body}")


def _capacity(upstream: Upstream) -> str:
    return f"slots={upstream.slots}&service_time={upstream.service_time}"


def _start_all(stack: AsyncExitStack, processes: Sequence[ChildProcess]) -> None:
    """Start them at the same time; `stack` stops them."""
    for process in processes:
        stack.push_async_exit(process)
        process.start()


async def _all_ready(processes: Sequence[ChildProcess]) -> None:
    for process in processes:
        await process.ready()


@asynccontextmanager
async def _background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
