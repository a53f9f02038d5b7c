"""The path of somebody who has an envoy.yaml: adopt it, observe, approve, auto, undo. The commands
are those of docs/operate.md, run as they stand there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import yaml

from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import LoadGenerator
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess

from .conftest import upstream

EIGENMESH = str(Path(sys.executable).with_name("eigenmesh"))


class Operator:
    """Types commands in a folder; `eigenmesh ctl` finds the API by the environment."""

    def __init__(self, folder: Path, ports: stage.Ports) -> None:
        self.folder, self.ports = folder, ports

    def types(self, command: str, status: int = 0) -> str:
        """What the command prints."""
        done = subprocess.run(
            [EIGENMESH, *command.split()],
            cwd=self.folder,
            env=os.environ | {"EIGENMESH_ADDRESS": f"127.0.0.1:{self.ports.api}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def sees(self, command: str) -> Any:
        return json.loads(self.types(f"{command} -o json"))

    async def waits(self, until: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Looks again and again until there is something; it is what `until` gives."""
        async with asyncio.timeout(seconds):
            while not (found := await asyncio.to_thread(until)):
                await asyncio.sleep(0.5)
        return found

    def weights(self) -> dict[str, dict[str, int]]:
        """In force, as Envoy itself says."""
        dump = json.loads(self.envoy.admin("/config_dump?resource=dynamic_route_configs"))
        return {
            route["name"]: {c["name"]: c["weight"] for c in split["clusters"]}
            for config in dump["configs"]
            for host in config["route_config"]["virtual_hosts"]
            for route in host["routes"]
            if (split := route["route"].get("weighted_clusters")) and host["name"] == stage.STEERED
        }

    envoy: EnvoyProcess


async def test_from_an_envoy_yaml_to_auto_and_back(tmp_path: Path) -> None:
    ports = stage.Ports()
    me = Operator(tmp_path, ports)
    address = {"socket_address": {"address": "127.0.0.1", "port_value": ports.admin}}
    own = {**stage.static_bootstrap(ports), "admin": {"address": address}}
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(own))
    # Free ports, quicker decisions; a user would leave the defaults.
    base = {
        "api": {"listen": f"127.0.0.1:{ports.api}"},
        "http": {"listen": f"127.0.0.1:{ports.http}"},
        "journal": "adopted/eigenmesh.sqlite",
        "interval": "1s",
        "steer": list(stage.ROUTES),
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))

    said = me.types(
        f"adopt envoy.yaml -o adopted --base base.yaml --xds-address 127.0.0.1:{ports.xds}"
    )
    assert "will steer: route shop: a 33%, b 33%, c 33%" in said
    assert "valid" in me.types("check adopted/eigenmesh.yaml")
    me.types("ctl status", status=3)  # nothing runs yet

    async with AsyncExitStack() as cleanup:
        for one in stage.UPSTREAMS:
            await cleanup.enter_async_context(upstream(one, ports))
        sidecar = ChildProcess(
            "eigenmesh",
            [EIGENMESH, "run", "-c", "adopted/eigenmesh.yaml"],
            log=tmp_path / "eigenmesh.log",
            ready_port=ports.http,
            ready_path="/readyz",
            cwd=tmp_path,
        )
        await cleanup.enter_async_context(sidecar)
        bootstrap = (tmp_path / "adopted" / "bootstrap.yaml").read_text()
        me.envoy = EnvoyProcess(bootstrap, ports.admin, log=tmp_path / "envoy.log")
        await cleanup.enter_async_context(me.envoy)
        load = await cleanup.enter_async_context(LoadGenerator(ports.envoy))
        await load.begin("run", {"shop": 140.0, "search": 140.0}, seed=1)
        before = me.weights()

        # 1. Observe: it says what it would do.
        decided = await me.waits(
            lambda: [
                d
                for d in me.sees("ctl decisions")["decisions"]
                if d["action"] == "ACTION_RECOMMEND"
            ]
        )
        assert "mode is observe" in decided[0]["why"]
        assert "decision" in me.types(f"ctl explain {decided[0]['number']}")
        assert me.weights() == before
        assert me.sees("ctl whatif --scale 1.2 --without c")["plan"]["routes"]

        # 2. Approve: nothing moves without a yes.
        me.types("ctl mode approve")
        await me.waits(lambda: me.sees("ctl status")["pendingDecision"])
        assert me.weights() == before
        me.types("ctl approve")
        await me.waits(lambda: me.weights() != before)

        # 3. Auto.
        approved = me.weights()
        me.types("ctl mode auto")
        await me.waits(lambda: me.weights() != approved)

        # And everything undone.
        me.types("ctl restore --yes")
        await me.waits(lambda: me.weights() == before)
        stopped = me.sees("ctl status")
        assert "restored by" in json.dumps(stopped)
        writes = [entry["action"] for entry in me.sees("ctl audit")["auditEntries"]]
        assert [w for w in reversed(writes) if w != "Arrived"] == [
            "SetMode",
            "Approve",
            "SetMode",
            "Restore",
        ]
        await load.begin("over", {}, seed=1)
        await asyncio.sleep(0.5)
        table = load.table("run")
        assert len(table.status) > 500
        assert set(table.status.tolist()) <= {200, 503}, "503: what was overloaded at the start"
