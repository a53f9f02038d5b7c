"""`ctl` as an operator uses it, on a real server, loop, journal and solvers; only the queues and
the Envoys are simulated."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eigenmesh.cli.main import app
from tests.api.stage import Stage, envoy, serving


async def ctl(stage: Stage, *args: str, exit_code: int = 0) -> str:
    """What it says, on standard output or, if it fails, on standard error."""
    line = ["ctl", *args, "--address", stage.address, "--timeout", "60"]
    done = await asyncio.to_thread(CliRunner().invoke, app, line)
    assert done.exit_code == exit_code, f"{args}: {done.output}"
    return done.stderr if exit_code else done.stdout


async def found(stage: Stage, *args: str) -> Any:
    return json.loads(await ctl(stage, *args, "-o", "json"))


async def test_from_looking_to_undoing(tmp_path: Path) -> None:
    async with serving(tmp_path, ticks=6) as stage:
        tick = stage.simulation.tick
        stage.nodes.append(envoy("envoy-1"))

        assert (await ctl(stage, "status")).startswith("mesh shop-mesh, mode auto\n1 Envoys")
        assert "envoy-1" in await ctl(stage, "nodes")
        assert [r["id"] for r in (await found(stage, "routes"))["routes"]] == ["shop"]
        assert [c["id"] for c in (await found(stage, "clusters"))["clusters"]] == ["a", "b", "c"]
        listed = (await found(stage, "decisions", "-n", "3"))["decisions"]
        assert [d["number"] for d in listed] == ["6", "5", "4"]
        assert "decision 4, " in await ctl(stage, "explain", "4")
        assert "400" in await ctl(stage, "explain", "400", exit_code=1)

        await ctl(stage, "mode", "approve")
        while stage.operations.pending is None:
            await tick()
        number = str(stage.operations.pending.number)
        assert f"decision {number} waits: " in await ctl(stage, "status")
        assert "recommend" not in await ctl(stage, "explain", "pending")
        await ctl(stage, "approve", str(int(number) + 100), exit_code=1)
        assert ": push: " in await ctl(stage, "approve", number)
        pushed = (await found(stage, "explain"))["number"]
        # What only waited was never in force.
        assert "choose one that was pushed" in await ctl(stage, "rollback", number, exit_code=1)
        assert await ctl(stage, "reject", exit_code=1)

        assert "paused: a test" in await ctl(stage, "pause", "a test")
        await ctl(stage, "freeze", "2h")
        assert (await ctl(stage, "resume")).endswith("mesh shop-mesh, mode approve\n")

        await ctl(stage, "mode", "auto")
        assert "route shop: pinned to c 10.0%" in await ctl(stage, "pin", "shop", "c=10%")
        told = await ctl(stage, "pin", "shop", "c=2", exit_code=1)
        assert "pins.shop.c" in told
        assert "use a fraction from 0 to 1" in told
        assert "policy max_step: 0.05" in await ctl(stage, "policy", "max_step=0.05")
        assert "policy.max_stepp" in await ctl(stage, "policy", "max_stepp=1", exit_code=1)
        assert "policy" not in await ctl(stage, "policy", "max_step=default")
        assert "pinned" not in await ctl(stage, "unpin", "shop")
        await ctl(stage, "promote", "shop", "c", exit_code=1)

        assert (await ctl(stage, "propose")).startswith("proposal, ")
        what = await found(stage, "whatif", "--demand", "shop=200", "--without", "c")
        assert what["demands"] == {"shop": 200.0}
        assert set(what["clusters"]) == {"a", "b"}

        assert "paused" in await ctl(stage, "rollback", pushed)
        assert "paused" in await ctl(stage, "restore")
        audit = (await found(stage, "audit"))["auditEntries"]
        assert [one["action"] for one in audit][:2] == ["Restore", "RollBack"]
        refused = {one["action"] for one in audit if one["outcome"] != "ok"}
        assert refused == {"Approve", "Reject", "RollBack"}, "what the state of the mesh forbade"


@pytest.mark.parametrize("form", ["json", "table"])
async def test_every_view_of_a_mesh_that_knows_nothing_yet(tmp_path: Path, form: str) -> None:
    async with serving(tmp_path, ticks=0) as stage:
        for command in ("status", "nodes", "routes", "clusters", "decisions", "audit"):
            assert await ctl(stage, command, "-o", form)
        assert "there is none" in await ctl(stage, "explain", exit_code=1)


async def test_tokens_and_roles(tmp_path: Path) -> None:
    tokens = []
    for name, role in (("viewer", "read"), ("deploy", "write")):
        (tmp_path / name).write_text(f"{name}-0123456789abcdef0123456789abcdef\n")
        tokens.append({"name": name, "role": role, "file": str(tmp_path / name)})
    async with serving(tmp_path, tokens=tokens) as stage:
        viewer = ("--token-file", str(tmp_path / "viewer"))
        assert "--token-file" in await ctl(stage, "status", exit_code=4)
        await ctl(stage, "status", *viewer)
        told = await ctl(stage, "pause", *viewer, exit_code=4)
        assert "role is write" in told
        await ctl(stage, "pause", "--token-file", str(tmp_path / "deploy"))
        [entry] = (await found(stage, "audit", *viewer))["auditEntries"]
        assert entry["who"] == "deploy"
