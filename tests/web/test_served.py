"""`eigenmesh run` itself: the page is there, asks, and lets go when it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from aiohttp import ClientSession
from playwright.async_api import expect

from eigenmesh.control.journal import Journal
from eigenmesh.demo.processes import ChildProcess, free_port

from ..control.test_settings import document
from .browser import opened


async def test_a_running_eigenmesh_serves_it(tmp_path: Path) -> None:
    """Without an Envoy: it holds, and says why."""
    ports = {name: free_port() for name in ("xds", "api", "http")}
    settings = document() | {n: {"listen": f"127.0.0.1:{port}"} for n, port in ports.items()}
    settings |= {"interval": "0.5s", "solver": "classical", "journal": str(tmp_path / "j.sqlite")}
    settings["telemetry"] = {"envoy": {"admin": [f"http://127.0.0.1:{free_port()}"]}}
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(yaml.safe_dump(settings))
    argv = [sys.executable, "-m", "eigenmesh", "run", "-c", str(file)]
    process = ChildProcess(
        "eigenmesh", argv, log=tmp_path / "log", ready_port=ports["http"], ready_path="/readyz"
    )
    url = f"http://127.0.0.1:{ports['http']}"
    process.start()
    try:
        process.wait_ready()
        async with opened(url, complaints=True) as page, ClientSession(url) as session:
            await expect(page.locator("#link")).to_contain_text("live · #")
            await expect(page.locator("#decision .badge")).to_have_text("held")
            await expect(page.locator("#status")).to_contain_text("Recommending")
            await page.get_by_role("button", name="Pause", exact=True).click()
            await page.get_by_role("dialog").get_by_role("button", name="Pause").click()
            await expect(page.locator("#status")).to_contain_text("paused: ")
            async with session.get("/api/events") as events:
                line = await events.content.readline()
                assert json.loads(line.removeprefix(b"data: "))["mesh"] == "shop"
                assert process.stop(20.0) == 0  # while both watch
            await expect(page.locator("#link")).to_contain_text("trying again")
    finally:
        process.stop()
    journal = Journal.reading(tmp_path / "j.sqlite")
    assert [(e.who, e.action) for e in journal.audit()] == [("local", "Pause")]
    journal.close()
