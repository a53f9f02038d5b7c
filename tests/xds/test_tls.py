"""TLS on the xDS port, with a real Envoy and over real gRPC."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from eigenmesh.control.settings import parse_document
from eigenmesh.control.sidecar import Sidecar
from eigenmesh.demo.processes import EnvoyProcess, free_port
from eigenmesh.xds.bootstrap import XDS_CLUSTER, bootstrap
from eigenmesh.xds.client_tls import ClientTls, secret_files
from eigenmesh.xds.event import XdsEvent
from eigenmesh.xds.identity import Identity
from eigenmesh.xds.node import Node
from eigenmesh.xds.operator import parse_operator
from eigenmesh.xds.resource import CLUSTER
from eigenmesh.xds.server import XdsServer
from eigenmesh.xds.tls import Certificates, TlsFiles
from eigenmesh.xds.translate import Translator

from ..certificates import make_authority, make_certificate
from .conftest import NAMES, operator_document
from .support import ask_delta, snapshot

DELTA = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SERVER = "eigenmesh.example"
IDENTITY = "spiffe://mesh.example/{cluster}/{id}"
ENVOY_1 = "URI:spiffe://mesh.example/edge/envoy-1"
TIMEOUT = 10.0


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is signed, once."""
    folder = tmp_path_factory.mktemp("pki")
    for authority in ("ca", "other"):
        make_authority(folder, authority)
    for name, names, authority in (
        ("server", f"DNS:{SERVER}", "ca"),
        ("renewed", f"DNS:{SERVER}", "ca"),
        ("client", ENVOY_1, "ca"),
        ("client2", f"{ENVOY_1},DNS:renewed", "ca"),
        ("stranger", ENVOY_1, "other"),
    ):
        make_certificate(folder, name, names, authority=authority)
    return folder


@pytest.fixture
def pki(made: Path, tmp_path: Path) -> Path:
    """A copy, of which a test may replace files."""
    return shutil.copytree(made, tmp_path / "pki")


def replace(folder: Path, source: str, target: str) -> None:
    """As a careful tool does it: each file by a rename."""
    for suffix in (".crt", ".key"):
        scratch = folder / f".{target}{suffix}"
        shutil.copy(folder / f"{source}{suffix}", scratch)
        scratch.rename(folder / f"{target}{suffix}")


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.02)


@dataclass
class Secured:
    """A server with mutual TLS, and what it reported and was shown."""

    folder: Path
    events: list[XdsEvent] = field(default_factory=list)
    shown: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        files = TlsFiles(
            self.folder / "server.crt", self.folder / "server.key", self.folder / "ca.crt"
        )
        self.certificates = Certificates(files)
        self.server = XdsServer(
            "127.0.0.1:0",
            on_event=self.events.append,
            credentials=self.certificates.credentials(),
            authorise=self._authorise,
        )
        self.port = 0

    def _authorise(self, node: Node, names: Sequence[str]) -> str | None:
        self.shown.append(tuple(names))
        return Identity(IDENTITY).refusal(node, names)

    def channel(self, client: str | None, authority: str = "ca") -> grpc.aio.Channel:
        def read(name: str) -> bytes:
            return (self.folder / name).read_bytes()

        pair = (read(f"{client}.key"), read(f"{client}.crt")) if client else (None, None)
        credentials = grpc.ssl_channel_credentials(read(f"{authority}.crt"), *pair)
        options = (
            ("grpc.ssl_target_name_override", SERVER),
            # Otherwise channels with the same credentials share a connection.
            ("grpc.use_local_subchannel_pool", 1),
        )
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options)

    @asynccontextmanager
    async def stream(self, client: str | None = "client") -> AsyncIterator[Any]:
        async with self.channel(client) as channel:
            yield open_stream(channel)

    async def serial(self) -> str:
        """Serial number of the certificate that a new handshake is shown."""
        return await asyncio.to_thread(self._handshake)

    def _handshake(self) -> str:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(self.folder / "client.crt", self.folder / "client.key")
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=SERVER) as secured,
        ):
            found = secured.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def open_stream(channel: Any) -> Any:
    return channel.stream_stream(
        DELTA,
        request_serializer=DeltaDiscoveryRequest.SerializeToString,
        response_deserializer=DeltaDiscoveryResponse.FromString,
    )(timeout=TIMEOUT)


def hello(node: str = "envoy-1", cluster: str = "edge") -> DeltaDiscoveryRequest:
    request = ask_delta(CLUSTER, node=node)
    request.node.cluster = cluster
    return request


def serial_of(path: Path) -> str:
    argv = ["openssl", "x509", "-noout", "-serial", "-in", str(path)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout.strip().removeprefix("serial=")


@pytest.fixture
async def secured(pki: Path) -> AsyncIterator[Secured]:
    secured = Secured(pki)
    secured.port = await secured.server.start()
    secured.server.publish(snapshot(CLUSTER, a=1))
    yield secured
    await secured.server.stop(0)


# -- who is let in ---------------------------------------------------------------------------------


async def test_only_a_client_that_the_ca_signed_is_let_in(secured: Secured) -> None:
    """One with another CA's certificate, with none, and with plain text are not."""

    async def refused(channel: grpc.aio.Channel) -> None:
        async with channel:
            call = open_stream(channel)
            with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                await call.write(hello())
                await call.read()
            assert await call.code() == grpc.StatusCode.UNAVAILABLE

    await refused(secured.channel("stranger"))
    await refused(secured.channel(None))
    await refused(grpc.aio.insecure_channel(f"127.0.0.1:{secured.port}"))
    assert secured.events == []
    async with secured.stream() as call:
        await call.write(hello())
        assert (await call.read()).resources[0].name == "a"


async def test_a_node_that_is_not_the_certificates_is_refused_with_the_reason(
    secured: Secured,
) -> None:
    async with secured.channel("client") as channel:
        honest, liar = open_stream(channel), open_stream(channel)
        await honest.write(hello())
        assert (await honest.read()).resources[0].name == "a"
        await liar.write(hello("envoy-2"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await liar.read()
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        reason = caught.value.details() or ""
        assert "node 'envoy-2' of cluster 'edge'" in reason
        assert "spiffe://mesh.example/edge/envoy-2" in reason
        assert ENVOY_1 in reason
        # It was sent nothing, is not among the nodes, and nobody else notices.
        assert [(e.kind, e.node_id) for e in secured.events] == [
            ("connect", "envoy-1"),
            ("subscribe", "envoy-1"),
            ("sent", "envoy-1"),
            ("refused", "envoy-2"),
        ]
        assert secured.events[-1].detail == reason
        assert [n.node_id for n in secured.server.nodes()] == ["envoy-1"]
        secured.server.publish(snapshot(CLUSTER, a=1, b=1))
        await honest.write(ask_delta(CLUSTER, nonce="1"))
        assert (await honest.read()).resources[0].name == "b"


# -- rotation --------------------------------------------------------------------------------------


async def test_a_new_certificate_is_for_new_handshakes_and_open_streams_live_on(
    secured: Secured,
) -> None:
    old, new = (serial_of(secured.folder / f"{n}.crt") for n in ("server", "renewed"))
    async with secured.stream() as call:
        await call.write(hello())
        first = await call.read()
        assert await secured.serial() == old
        replace(secured.folder, "renewed", "server")
        assert await secured.serial() == new
        secured.server.publish(snapshot(CLUSTER, a=2))
        await call.write(ask_delta(CLUSTER, nonce=first.nonce))
        assert (await call.read()).resources[0].name == "a"
    assert secured.certificates.problem() == ""
    assert [e.kind for e in secured.events].count("connect") == 1


async def test_files_that_cannot_be_used_change_nothing_and_are_said_once(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    folder, said = secured.folder, logging.ERROR
    old, new = (serial_of(folder / f"{n}.crt") for n in ("server", "renewed"))
    whole = (folder / "renewed.crt").read_bytes()
    (folder / "server.crt").write_bytes(whole[: len(whole) // 2])
    for _ in range(3):
        assert await secured.serial() == old
    assert "no certificate in PEM" in secured.certificates.problem()
    assert [r.levelno for r in caplog.records if r.levelno >= said] == [said]
    # Whole, but the key is not there yet.
    (folder / "server.crt").write_bytes(whole)
    for _ in range(3):
        assert await secured.serial() == old
    assert "not the key of" in secured.certificates.problem()
    assert [r.levelno for r in caplog.records if r.levelno >= said] == [said, said]
    replace(folder, "renewed", "server")
    assert secured.certificates.problem() == ""
    assert await secured.serial() == new


async def test_a_new_client_ca_is_for_new_handshakes(secured: Secured) -> None:
    both = b"".join((secured.folder / f"{n}.crt").read_bytes() for n in ("ca", "other"))
    (secured.folder / "both").write_bytes(both)
    (secured.folder / "both").rename(secured.folder / "ca.crt")
    async with secured.stream("stranger") as call:
        await call.write(hello())
        assert (await call.read()).resources[0].name == "a"


# -- Envoy -----------------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    return operator_document(free_port(), {name: free_port() for name in NAMES})


async def test_an_envoy_joins_over_mutual_tls_from_the_settings_alone(
    pki: Path, tmp_path: Path
) -> None:
    xds, admin = free_port(), free_port()
    settings = {
        "journal": str(tmp_path / "j.sqlite"),
        "xds": {
            "listen": f"127.0.0.1:{xds}",
            "tls": {
                "certificate": str(pki / "server.crt"),
                "private_key": str(pki / "server.key"),
                "client_ca": str(pki / "ca.crt"),
                "identity": IDENTITY,
            },
        },
        "node": {
            "admin": f"127.0.0.1:{admin}",
            "tls": {
                "ca": str(pki / "ca.crt"),
                "certificate": str(pki / "client.crt"),
                "private_key": str(pki / "client.key"),
                "server_name": SERVER,
            },
        },
        "telemetry": {"envoy": {"admin": [f"http://127.0.0.1:{admin}"]}},
        "envoy": document(),
    }
    (tmp_path / "eigenmesh.yaml").write_text(yaml.safe_dump(settings))
    argv = [sys.executable, "-m", "eigenmesh", "bootstrap", "-c", "eigenmesh.yaml", "-o", "out"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    start = yaml.safe_load((tmp_path / "out" / "bootstrap.yaml").read_text())
    checked = parse_document(settings)
    assert checked.warnings == ()
    sidecar = Sidecar(checked)
    sidecar.xds.publish(Translator(checked.operator).snapshot(checked.operator.original_plan()))
    await sidecar.xds.start()
    try:
        async with EnvoyProcess(start, admin, log=tmp_path / "envoy.log") as envoy:
            [node] = sidecar.xds.nodes()
            assert node.node_id == "envoy-1"
            stats = envoy.stats(rf"cluster\.{XDS_CLUSTER}\.ssl\.versions")
            assert stats[f"cluster.{XDS_CLUSTER}.ssl.versions.TLSv1.3"] >= 1
        # The same Envoy under another name.
        start["node"]["id"] = "envoy-2"
        log = tmp_path / "refused.log"
        liar = EnvoyProcess(start, admin, log=log)
        try:
            liar.start()
            await eventually(lambda: "closed: 7" in log.read_text())
            assert "needs a certificate for spiffe://mesh.example/edge/envoy-2" in log.read_text()
        finally:
            liar.stop()
        value = sidecar.metrics.registry.get_sample_value
        assert value("eigenmesh_xds_events_total", {"kind": "refused", "type": ""})
        assert value("eigenmesh_xds_certificate_stale") == 0
        (pki / "server.key").write_text("")
        assert value("eigenmesh_xds_certificate_stale") == 1
    finally:
        await sidecar.xds.stop(0)
        sidecar.journal.close()


@dataclass
class Wire:
    """A TCP relay whose connections can be cut."""

    target: int
    port: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @asynccontextmanager
    async def laid(self) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        ends = {writer, back}
        self._open |= ends
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        except OSError:
            pass  # cut
        finally:
            self._open -= ends
            for end in ends:
                end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


def joined(pki: Path, xds: int, admin: int) -> dict[str, Any]:
    """A bootstrap with its secrets written beside the certificates."""
    tls = ClientTls(
        ca=str(pki / "ca.crt"),
        server_name=SERVER,
        secrets=str(pki),
        certificate=str(pki / "client.crt"),
        private_key=str(pki / "client.key"),
    )
    for name, secret in secret_files(tls).items():
        (pki / name).write_text(yaml.safe_dump(secret))
    return bootstrap(
        node_id="envoy-1",
        node_cluster="edge",
        xds_address=f"127.0.0.1:{xds}",
        admin_address=f"127.0.0.1:{admin}",
        runtime_layer="eigenmesh",
        tls=tls,
    )


async def test_an_envoy_that_comes_back_is_known_and_shows_its_renewed_certificate(
    secured: Secured, tmp_path: Path
) -> None:
    config = parse_operator(document())
    secured.server.publish(Translator(config).snapshot(config.original_plan()))
    admin = free_port()
    async with Wire(secured.port).laid() as wire:
        start = joined(secured.folder, wire.port, admin)
        async with EnvoyProcess(start, admin, log=tmp_path / "envoy.log") as envoy:

            async def back() -> None:
                known = len(secured.shown)
                wire.cut()
                await eventually(lambda: len(secured.shown) > known)

            await back()
            # The certificate is not sent again with a resumed session; it must still be known.
            reused = f"cluster.{XDS_CLUSTER}.ssl.session_reused"
            assert envoy.stats(reused)[reused] == 1
            replace(secured.folder, "client2", "client")
            async with asyncio.timeout(TIMEOUT):
                while "DNS:renewed" not in secured.shown[-1]:
                    await back()
    assert all(ENVOY_1 in names for names in secured.shown)
    assert not [e for e in secured.events if e.kind == "refused"]


async def test_an_envoy_takes_nobody_else_for_its_control_plane(pki: Path, tmp_path: Path) -> None:
    """The CA signed the other Envoys too."""
    replace(pki, "client", "server")
    secured = Secured(pki)
    secured.port = await secured.server.start()
    admin = free_port()
    try:
        start = joined(pki, secured.port, admin)
        envoy = EnvoyProcess(start, admin, log=tmp_path / "envoy.log")
        try:
            envoy.start()
            failed = f"cluster.{XDS_CLUSTER}.ssl.fail_verify_san"
            await eventually(lambda: answering(envoy) and envoy.stats(failed).get(failed))
        finally:
            envoy.stop()
    finally:
        await secured.server.stop(0)
    assert secured.events == []


def answering(envoy: EnvoyProcess) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", envoy.admin_port)) == 0
