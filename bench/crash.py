"""Kills a running Eigenmesh over and over (SIGKILL), and looks at what comes back.

    python -m bench.crash [--kills 200] [--seed 1] [--results FOLDER]

A real Envoy under light load, a real `eigenmesh run` that decides five times a second and pushes
whatever is a little better. Half of the kills come at a random time, half as soon as the log says
that a tick has come to a stage, whose turn it is. The restart then finds the settings with an
interval of a minute, so that it decides nothing before it has been looked at:

- the plan in force by its API, by the journal and by Envoy's own admin endpoint must be one;
- Envoy's update counters must not have moved, unless the journal was a plan ahead of it: then by
  one for what differs;
- and no request may ever fail.

Writes every kill to crash.json and a table to crash.md. Exit status 1 if anything is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eigenmesh.api.client import MeshClient
from eigenmesh.control.journal import Journal
from eigenmesh.control.settings import Settings, load_settings
from eigenmesh.control.sidecar import mesh_hash
from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess
from eigenmesh.mesh import ENVOY_DEFAULT_LIMITS, Plan
from eigenmesh.mesh.plan import to_integers
from eigenmesh.xds.bootstrap import bootstrap

RESULTS = Path(__file__).resolve().parent / "results"

STAGES = (
    *("starting", "observing", "estimating", "solving", "journaling", "pushing", "recording"),
    "waiting",
)
"""Of a process' life, as its log names them; `starting` until it first observes."""

AIMS = tuple(aim for name in STAGES for aim in (name, "any time"))

FAST, SLOW = "200ms", "60s"
"""The interval while it is to be killed, and while it is looked at."""

EAGER = {
    "min_gain": 0.0,
    "deadband": 0.0,
    "max_step": 0.05,
    "max_limit_step": 1.2,
    "verify": {"rollbacks": 0},
}
"""A guard that has a plan pushed in most ticks, and goes on after any number of rollbacks."""

RATES = {"shop": 30.0, "search": 30.0}
LONGEST = 9.0
"""Seconds that a random kill comes at the latest; the solver is warm after about five."""

COUNTERS = r"\.update_success$|^runtime\.load_success$|^cluster_manager\.cluster_(added|modified)$"

InForce = tuple[dict[str, dict[str, int]], dict[str, int]]
"""Integer weights by route, max_requests by cluster."""


@dataclass
class Kill:
    """One kill and what the restart found. aim: a stage, or "any time". lived: seconds.

    ahead: the journal had a plan that Envoy had not got. requests, failed: that were answered since
    the kill before, and of them those that were not answered with 200. moved: Envoy's update
    counters that the restart moved. problems: what should not be.
    """

    number: int
    aim: str
    stage: str
    lived: float
    decisions: int
    pushes: int
    ahead: bool = False
    requests: int = 0
    failed: int = 0
    moved: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def integers(plan: Plan) -> InForce:
    """What Envoy is to show under the plan."""
    limits = {c: plan.limits.get(c, ENVOY_DEFAULT_LIMITS).max_requests for c in "abc"}
    return {route: to_integers(split) for route, split in plan.weights.items()}, limits


class Rig:
    """Everything that runs but Eigenmesh, and Eigenmesh again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = stage.Ports()
        self.file = folder / "eigenmesh.yaml"
        self.document = stage.settings(self.ports, folder / "journal.sqlite")
        self.document |= {"mode": "auto", "solve_timeout": "2s", "guard": EAGER}
        self.put_interval(SLOW)
        self.settings: Settings = load_settings(self.file)
        start = bootstrap(
            node_id="envoy-1",
            node_cluster="edge",
            xds_address=f"127.0.0.1:{self.ports.xds}",
            admin_address=f"127.0.0.1:{self.ports.admin}",
            runtime_layer="eigenmesh",
        )
        self.envoy = EnvoyProcess(start, self.ports.admin, log=folder / "envoy.log")
        self.load = LoadGenerator(self.ports.envoy, log=folder / "load.log")
        self.life: ChildProcess | None = None
        self._born = 0.0

    def put_interval(self, interval: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(yaml.safe_dump({**self.document, "interval": interval}))
        os.replace(new, self.file)

    def start(self, number: int) -> ChildProcess:
        command = [sys.executable, "-m", "eigenmesh", "run", "-c", str(self.file)]
        self.life = ChildProcess(
            f"life-{number}",
            [*command, "--log-level", "debug"],
            log=self.folder / f"life-{number}-{time.monotonic_ns()}.log",
            ready_port=self.ports.http,
            ready_path="/readyz",
            ready_timeout=120.0,
        )
        self._born = time.monotonic()
        self.life.start()
        return self.life

    def hurry(self) -> None:
        """From the next moment on it decides all the time, by its own reloading."""
        assert self.life is not None
        self.put_interval(FAST)
        os.kill(self.life.pid, signal.SIGHUP)

    async def kill(self, number: int, aim: str, chance: random.Random) -> Kill:
        """As soon as the aim is reached; at a stage that is not reached in time, wherever it is."""
        assert self.life is not None
        life = self.life
        if aim == "any time":
            await asyncio.sleep(chance.uniform(0.0, LONGEST))
        elif aim == "starting":
            life.kill()
            life = self.start(number)
            await asyncio.sleep(chance.uniform(0.0, 1.5))
        else:
            delay = chance.choice((0.0, chance.uniform(0.0, 0.005)))
            await asyncio.to_thread(_kill_at, aim, life, delay)
        life.kill()
        lived = time.monotonic() - self._born
        self.put_interval(SLOW)
        lines = life.log_path.read_text(errors="replace").splitlines()
        stages = [found.group(1) for line in lines if (found := _STAGE.search(line))]
        made = sum('"event": "decision"' in line for line in lines)
        life.stop()  # the solver's process, if it has not noticed yet
        pushes = stages.count("pushing")
        return Kill(number, aim, (stages or ["starting"])[-1], round(lived, 2), made, pushes)

    def journal(self) -> Plan:
        """The plan in force that the journal has; nobody else may have it open."""
        journal = Journal(self.settings.model.journal.path)
        try:
            found = journal.resume(mesh_hash(self.settings.topology)).plan
        finally:
            journal.close()
        return found or self.settings.groups.original_plan()

    async def api(self) -> InForce | None:
        """The plan in force that the API tells; None while no Envoy is connected."""
        async with MeshClient(f"127.0.0.1:{self.ports.api}") as client:
            mesh = await client.get_mesh()
        plan = mesh.plan_in_force
        if not mesh.connected_nodes:
            return None
        weights = {r.route: to_integers(dict(r.weights)) for r in plan.routes}
        limits = dict.fromkeys("abc", ENVOY_DEFAULT_LIMITS.max_requests)
        return weights, limits | {c.cluster: c.max_requests for c in plan.clusters}

    def served(self) -> InForce:
        """What Envoy itself says is in force."""
        dump = json.loads(self.envoy.admin("/config_dump?resource=dynamic_route_configs"))
        [table] = [config["route_config"] for config in dump["configs"]]
        [host] = [host for host in table["virtual_hosts"] if host["name"] == stage.STEERED]
        weights = {
            route["name"]: {
                c["name"]: c["weight"] for c in route["route"]["weighted_clusters"]["clusters"]
            }
            for route in host["routes"]
        }
        text = self.envoy.admin("/clusters")
        limits = {
            name: int(most)
            for name, most in re.findall(
                r"^([abc])::default_priority::max_requests::(\d+)$", text, re.M
            )
        }
        return weights, limits

    async def check(self, kill: Kill, planned: Plan, before: InForce, counted: Counts) -> None:
        """After the restart: says in the kill what is not as it should be."""
        wanted = integers(planned)
        kill.ahead = before != wanted
        deadline = time.monotonic() + 20.0
        while (told := await self.api()) is None or self.served() != wanted:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)  # for an update that should not come
        if told != wanted:
            kill.problems.append(f"API {told}, journal {wanted}")
        if (served := self.served()) != wanted:
            kill.problems.append(f"Envoy {served}, journal {wanted}")
        now = self.envoy.stats(COUNTERS)
        kill.moved = {n: now[n] - counted.get(n, 0) for n in now if now[n] != counted.get(n, 0)}
        allowed = set()
        if before[0] != wanted[0]:
            allowed.add("http.ingress.rds.edge.update_success")
        if before[1] != wanted[1]:
            allowed |= {"runtime.load_success", "runtime.update_success"}
        for name, steps in kill.moved.items():
            if name not in allowed or steps > 1:
                kill.problems.append(f"{name} moved by {steps}")


Counts = Mapping[str, int]
_STAGE = re.compile(r'"stage": "(\w+)"')


def _kill_at(aim: str, life: ChildProcess, delay: float, within: float = 20.0) -> None:
    """So many seconds after its log says that a tick has come to the stage; if it does not come
    to it in time, then."""
    deadline = time.monotonic() + within
    words = f'"stage": "{aim}"'
    with life.log_path.open() as lines:
        lines.seek(0, os.SEEK_END)
        while words not in lines.read() and time.monotonic() < deadline:
            time.sleep(0.0001)
    time.sleep(delay)
    os.kill(life.pid, signal.SIGKILL)


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """With the first Eigenmesh, since Envoy waits for it."""
    async with AsyncExitStack() as cleanup:
        made = Rig(folder)
        for one in stage.UPSTREAMS:
            port = made.ports.upstreams[one.name]
            argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
            argv += ["--slots", str(one.slots), "--service-time", str(one.service_time)]
            upstream = ChildProcess(f"upstream-{one.name}", argv, ready_port=port)
            await cleanup.enter_async_context(upstream)
        cleanup.callback(lambda: made.life and made.life.stop())
        first = made.start(0)
        await cleanup.enter_async_context(made.envoy)
        await cleanup.enter_async_context(made.load)
        await first.ready()
        yield made


async def run(
    folder: Path, kills: int, seed: int, aims: Sequence[str] = AIMS
) -> AsyncIterator[Kill]:
    chance = random.Random(seed)
    answered = 0
    async with rig(folder) as made:
        await made.load.begin("crash", RATES, seed=seed)
        for number in range(1, kills + 1):
            aim = aims[(number - 1) % len(aims)]
            if aim != "starting":
                made.hurry()
            kill = await made.kill(number, aim, chance)
            planned, before = made.journal(), made.served()
            counted = made.envoy.stats(COUNTERS)
            await made.start(number).ready()
            await made.check(kill, planned, before, counted)
            if number == kills:
                await made.load.begin("quiet", {}, seed=1)
                await asyncio.sleep(1.0)
                await made.load.close()
            records, answered = made.load.records[answered:], len(made.load.records)
            kill.requests = len(records)
            kill.failed = sum(record.status != 200 for record in records)
            yield kill


def table(kills: Sequence[Kill]) -> str:
    lines = [
        "# Killed, and started again",
        "",
        "`make bench-crash`; every kill is in `crash.json`. *Ahead*: the journal had a plan that "
        "Envoy had not got; the restart then sends it. *Disagreements*: API, journal and Envoy did "
        "not have one plan after the restart, or an update came that no plan asked for.",
        "",
        "| last stage before the kill | kills | ahead | disagreements |",
        "|---|---|---|---|",
    ]
    for name in STAGES:
        own = [kill for kill in kills if kill.stage == name]
        ahead, bad = sum(k.ahead for k in own), sum(bool(k.problems) for k in own)
        lines.append(f"| {name} | {len(own)} | {ahead} | {bad} |")
    ahead, bad = sum(k.ahead for k in kills), sum(bool(k.problems) for k in kills)
    lines += [
        f"| **all** | {len(kills)} | {ahead} | {bad} |",
        "",
        f"{sum(k.requests for k in kills):,} requests meanwhile, {sum(k.failed for k in kills)} of "
        f"them not answered with 200. {sum(k.decisions for k in kills):,} decisions, "
        f"{sum(k.pushes for k in kills):,} pushes.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    raw: dict[str, Any] = {"machine": machine, "seed": options.seed}
    found: list[Kill] = []

    async def work(folder: Path) -> None:
        async for kill in run(folder, options.kills, options.seed):
            found.append(kill)
            print(
                f"{kill.number:4} {kill.aim:10} {kill.stage:10} {kill.lived:5.1f} s "
                f"{kill.decisions:3} decisions {kill.pushes:3} pushes"
                f"{' ahead' if kill.ahead else ''} {kill.problems}",
                flush=True,
            )
            # After every one of them: it takes half an hour.
            raw["kills"] = [asdict(kill) for kill in found]
            (options.results / "crash.json").write_text(json.dumps(raw, indent=1) + "\n")
            (options.results / "crash.md").write_text(table(found))

    with tempfile.TemporaryDirectory(prefix="eigenmesh-crash-") as folder:
        asyncio.run(work(Path(folder)))
    print(table(found))
    return int(any(kill.problems or kill.failed for kill in found))


if __name__ == "__main__":
    sys.exit(main())
