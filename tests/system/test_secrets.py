"""Whatever Eigenmesh writes, shows or answers, none of the secrets that it was given is in it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from aiohttp import web

from eigenmesh.api.client import MeshClient
from eigenmesh.control.journal import Journal
from eigenmesh.control.record import to_body
from eigenmesh.demo import stage
from eigenmesh.demo.processes import ChildProcess, EnvoyProcess, http_get
from tests.certificates import make_authority, make_certificate

WRITER, STRANGER = "writer-Qs8bK1", "stranger-Ud2gJ6"
BEARER = "bearer-Zk3vQ9"
PASSWORD = "password-Xw7pL2"
MISPLACED = "misplaced-Ht5rN8"
TLS = {
    "name": "envoy.transport_sockets.tls",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "own"}]},
    },
}
"""Of a cluster that is served its own certificate by SDS."""


@asynccontextmanager
async def indiscreet(port: int) -> AsyncIterator[list[str]]:
    """A Prometheus that says no, and repeats the credentials. Gives what it was shown."""
    shown: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        credentials = request.headers.get("Authorization", "")
        shown.append(credentials)
        body = {"status": "error", "errorType": "unauthorized", "error": f"not {credentials}"}
        return web.json_response(body, status=401, reason=f"Unauthorized {credentials}")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield shown
    finally:
        await runner.cleanup()


def key_lines(folder: Path) -> list[str]:
    """What is in the private keys, line by line."""
    return [
        line
        for file in folder.glob("*.key")
        for line in file.read_text().splitlines()
        if not line.startswith("-----")
    ]


def everything(journal: Path) -> str:
    """All that a journal holds, as it is read and as it stands in the file."""
    reader = Journal.reading(journal)
    try:
        decisions = [reader.decision(one.number) for one in reader.page(10_000)]
        read = [json.dumps(to_body(decision)) for decision in decisions if decision]
        read += map(repr, [*decisions, *reader.audit(10_000)])
    finally:
        reader.close()
    with sqlite3.connect(journal) as db:
        return "\n".join([*read, *db.iterdump()]) + journal.read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    "credentials",
    [
        {"bearer": {"file": "bearer"}},
        {"basic": {"username": "eigenmesh", "password": {"env": "TEST_PASSWORD"}}},
    ],
    ids=["bearer", "basic"],
)
async def test_no_secret_is_in_anything_that_is_written(
    tmp_path: Path, credentials: dict[str, Any]
) -> None:
    make_authority(tmp_path)
    make_certificate(tmp_path, "server", "DNS:localhost,IP:127.0.0.1")
    make_certificate(tmp_path, "envoy", "DNS:envoy-1")
    (tmp_path / "bearer").write_text(BEARER)
    ports = stage.Ports()
    document = stage.settings(ports, tmp_path / "journal.sqlite", prometheus=True)
    document["interval"] = "500ms"
    if "bearer" in credentials:
        credentials = {"bearer": {"file": str(tmp_path / "bearer")}}
    document["telemetry"]["prometheus"] |= credentials
    (tmp_path / "writer").write_text(WRITER)
    document["api"]["tokens"] = [
        {"name": "writer", "role": "write", "file": str(tmp_path / "writer")}
    ]
    document["xds"]["tls"] = {
        "certificate": str(tmp_path / "server.crt"),
        "private_key": str(tmp_path / "server.key"),
        "client_ca": str(tmp_path / "ca.crt"),
    }
    document["node"]["tls"] = {
        "ca": str(tmp_path / "ca.crt"),
        "certificate": str(tmp_path / "envoy.crt"),
        "private_key": str(tmp_path / "envoy.key"),
    }
    static = document["envoy"]["static_resources"]
    pair = {
        "certificate_chain": {"inline_string": (tmp_path / "envoy.crt").read_text()},
        "private_key": {"inline_string": (tmp_path / "envoy.key").read_text()},
    }
    static["secrets"] = [{"name": "own", "tls_certificate": pair}]
    static["clusters"].append({**static["clusters"][0], "name": "tls", "transport_socket": TLS})
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "eigenmesh"]
    subprocess.run(
        [*command, "bootstrap", "-c", str(file), "-o", str(tmp_path / "boot")],
        check=True,
        capture_output=True,
        env=os.environ | {"TEST_PASSWORD": PASSWORD},
    )
    sidecar = ChildProcess(
        "eigenmesh",
        [*command, "run", "-c", str(file), "--log-level", "debug"],
        log=tmp_path / "eigenmesh.log",
        env={"TEST_PASSWORD": PASSWORD},
        ready_port=ports.http,
        ready_path="/readyz",
        ready_timeout=60.0,
    )
    envoy = EnvoyProcess((tmp_path / "boot" / "bootstrap.yaml").read_text(), ports.admin)

    def log() -> str:
        return sidecar.log_path.read_text()

    async def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30.0
        while not condition():
            assert time.monotonic() < deadline, log()[-2000:]
            await asyncio.sleep(0.1)

    async with AsyncExitStack() as cleanup:
        shown = await cleanup.enter_async_context(indiscreet(ports.prometheus))
        await cleanup.enter_async_context(sidecar)
        await cleanup.enter_async_context(envoy)
        await until(lambda: log().count('"event": "decision"') >= 3)
        assert any(shown), "the credentials were not even used"
        # A secret where the place of one belongs, in a file that is read anew.
        wrong = json.loads(json.dumps(document))
        wrong["telemetry"]["prometheus"] |= {"bearer": MISPLACED, "basic": None}
        file.write_text(yaml.safe_dump(wrong))
        os.kill(sidecar.pid, signal.SIGHUP)
        await until(lambda: "settings refused" in log())

        written = {"metrics": http_get(ports.http, "/metrics")[1]}
        address = f"127.0.0.1:{ports.api}"
        async with MeshClient(address, token=STRANGER) as client:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.get_mesh()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        async with MeshClient(address, token=WRITER) as client:
            answers: list[object] = [await client.pause("to be audited")]
            answers += [await client.get_mesh(), await client.get_decision()]
            answers += [entry async for entry in client.list_audit_entries()]
        assert "to be audited" in str(answers)
        written["API"] = f"{answers} {refused.value.details()} {refused.value.trailing_metadata()}"
        written["config_dump"] = envoy.admin("/config_dump?include_eds")
    written["log"] = log()
    written["journal"] = everything(tmp_path / "journal.sqlite")
    assert "401" in written["journal"], "the refusal itself is to be seen"
    assert '"own"' in written["config_dump"]

    secrets = [WRITER, STRANGER, BEARER, PASSWORD, MISPLACED, *key_lines(tmp_path)]
    secrets += [credential.split()[-1] for credential in shown]
    for where, text in written.items():
        for secret in secrets:
            assert secret not in text, f"{secret[:8]}... is in the {where}"
