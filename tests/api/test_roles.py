"""Who may do what: by tokens, by certificates, and by neither; and no secret is ever told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from eigenmesh.api.auth import Access, UnknownCallerError
from eigenmesh.api.client import ClientTls, MeshClient
from eigenmesh.api.errors import details_of
from eigenmesh.control.api_settings import ApiListen, Role

from ..certificates import make_authority, make_certificate
from .stage import serving

READER, WRITER, WRONG = "reader-secret-0123456789", "writer-secret-0123456789", "wrong-secret"
FINE, DENIED, UNKNOWN = None, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    for authority in ("ca", "strangers"):
        make_authority(folder, authority)
    make_certificate(folder, "server", "DNS:mesh.example,IP:127.0.0.1")
    make_certificate(folder, "ops", "URI:spiffe://mesh.example/ops/ann")
    make_certificate(folder, "board", "DNS:board.example")
    make_certificate(folder, "nobody", "URI:spiffe://mesh.example/ops/ann/laptop")
    make_certificate(folder, "stranger", "DNS:board.example", authority="strangers")
    return folder


def tokens(folder: Path) -> list[dict[str, Any]]:
    (folder / "reader").write_text(f"{READER}\n")
    (folder / "writer").write_text(f"{WRITER}\n")
    return [
        {"name": "board", "role": "read", "file": str(folder / "reader")},
        {"name": "ann", "role": "write", "file": str(folder / "writer")},
    ]


def served_tls(pki: Path, *, clients: bool = True) -> dict[str, Any]:
    files = {"certificate": str(pki / "server.crt"), "private_key": str(pki / "server.key")}
    if not clients:
        return files
    roles = {"spiffe://mesh.example/ops/*": "write", "board.example": "read"}
    return {**files, "client_ca": str(pki / "ca.crt"), "roles": roles}


async def outcome(client: MeshClient, *, write: bool) -> grpc.StatusCode | None:
    """The code that refuses it; None if it is done."""
    async with client:
        try:
            await (client.pause("a test") if write else client.get_mesh())
        except grpc.aio.AioRpcError as error:
            return error.code()
        return None


@pytest.mark.parametrize(
    ("token", "reads", "writes"),
    [
        (READER, FINE, DENIED),
        (WRITER, FINE, FINE),
        (WRONG, UNKNOWN, UNKNOWN),
        (READER[:-1], UNKNOWN, UNKNOWN),
        (None, UNKNOWN, UNKNOWN),
    ],
    ids=["reader", "writer", "wrong", "shortened", "none"],
)
async def test_tokens(
    tmp_path: Path,
    token: str | None,
    reads: grpc.StatusCode | None,
    writes: grpc.StatusCode | None,
) -> None:
    async with serving(tmp_path, ticks=0, tokens=tokens(tmp_path)) as stage:
        assert await outcome(stage.client(token), write=False) is reads
        assert await outcome(stage.client(token), write=True) is writes
        assert bool(stage.operations.controls.paused) is (writes is FINE)
        entries = stage.journal.audit()
        assert [e.who for e in entries] == (["ann"] if writes is FINE else [])
        if writes is not FINE:
            assert stage.calls["Pause", writes.name] == 1


async def test_without_a_token_all_may_read_if_the_settings_say_so(tmp_path: Path) -> None:
    async with serving(tmp_path, 0, tokens=tokens(tmp_path), anonymous="read") as stage:
        assert await outcome(stage.client(), write=False) is FINE
        assert await outcome(stage.client(), write=True) is DENIED
        assert await outcome(stage.client(WRITER), write=True) is FINE
        # Who shows a token means to be somebody.
        assert await outcome(stage.client(WRONG), write=False) is UNKNOWN


async def test_streams_and_every_method_are_guarded(tmp_path: Path) -> None:
    from .test_fuzz import METHODS

    async with (
        serving(tmp_path, ticks=0, tokens=tokens(tmp_path)) as stage,
        grpc.aio.insecure_channel(stage.address) as channel,
    ):
        for method in METHODS:
            path = f"/{method.containing_service.full_name}/{method.name}"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                if method.server_streaming:
                    async for _ in channel.unary_stream(path, None, None)(b""):
                        pass
                else:
                    await channel.unary_unary(path, None, None)(b"")
            assert caught.value.code() is UNKNOWN, method.name
            assert stage.calls[method.name, UNKNOWN.name] == 1


async def test_a_token_that_is_renewed_or_removed_needs_no_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, ticks=0, tokens=tokens(tmp_path)) as stage:
        (tmp_path / "writer").write_text("another-secret-0123456789")
        assert await outcome(stage.client(WRITER), write=False) is UNKNOWN
        assert await outcome(stage.client("another-secret-0123456789"), write=True) is FINE
        (tmp_path / "writer").unlink()
        assert await outcome(stage.client("another-secret-0123456789"), write=True) is UNKNOWN
        assert await outcome(stage.client(READER), write=False) is FINE


async def test_no_token_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in answers, logs, metrics, the settings as text, or the journal."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    async with serving(tmp_path, ticks=1, tokens=tokens(tmp_path)) as stage:
        for token in (READER, WRITER, WRONG, f"{WRITER}x"):
            async with stage.client(token) as client:
                calls = [client.get_mesh(), client.pause("x"), client.what_if({"z": 1.0})]
                for call in calls:
                    try:
                        said.append(str(await call))
                    except grpc.aio.AioRpcError as error:
                        said.append(f"{error} {error.trailing_metadata()} {details_of(error)}")
        said += [str(call) for call in stage.calls]
        journal = b"".join(f.read_bytes() for f in tmp_path.glob("journal.sqlite*"))
    said.append(
        str(ApiListen.model_validate({"listen": "127.0.0.1:0", "tokens": tokens(tmp_path)}))
    )
    said += [caplog.text, *capfd.readouterr(), journal.decode(errors="replace")]
    assert "refused" in caplog.text
    for secret in (READER, WRITER, WRONG):
        assert not any(secret in text for text in said)


@pytest.mark.parametrize(
    ("name", "reads", "writes", "who"),
    [
        ("ops", FINE, FINE, "spiffe://mesh.example/ops/ann"),
        ("board", FINE, DENIED, None),
        ("nobody", UNKNOWN, UNKNOWN, None),
        ("stranger", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, None),
        (None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, None),
    ],
)
async def test_certificates(
    tmp_path: Path,
    pki: Path,
    name: str | None,
    reads: grpc.StatusCode | None,
    writes: grpc.StatusCode | None,
    who: str | None,
) -> None:
    certificate, key = (pki / f"{name}.crt", pki / f"{name}.key") if name else (None, None)
    tls = ClientTls(pki / "ca.crt", certificate, key, server_name="mesh.example")
    async with serving(tmp_path, ticks=0, tls=served_tls(pki)) as stage:
        assert await outcome(stage.client(tls=tls), write=False) is reads
        assert await outcome(stage.client(tls=tls), write=True) is writes
        assert [e.who for e in stage.journal.audit()] == ([who] if who else [])


async def test_a_certificate_that_is_replaced_needs_no_restart(tmp_path: Path, pki: Path) -> None:
    make_certificate(pki, "renewed", "DNS:mesh.example", authority="strangers")

    def put(name: str) -> None:
        for kind in ("crt", "key"):
            (tmp_path / f"api.{kind}").write_bytes((pki / f"{name}.{kind}").read_bytes())

    put("server")
    tls = {"certificate": str(tmp_path / "api.crt"), "private_key": str(tmp_path / "api.key")}
    async with serving(tmp_path, ticks=0, tls=tls) as stage:
        for name, authority in (("server", "ca"), ("renewed", "strangers")):
            put(name)
            shown = ClientTls(pki / f"{authority}.crt", server_name="mesh.example")
            assert await outcome(stage.client(tls=shown), write=False) is FINE


async def test_a_token_over_tls_adds_to_what_a_certificate_may(tmp_path: Path, pki: Path) -> None:
    board = ClientTls(pki / "ca.crt", pki / "board.crt", pki / "board.key")
    async with serving(tmp_path, 0, tls=served_tls(pki), tokens=tokens(tmp_path)) as stage:
        assert await outcome(stage.client(tls=board), write=True) is DENIED
        assert await outcome(stage.client(WRITER, tls=board), write=True) is FINE
    async with serving(
        tmp_path, 0, tls=served_tls(pki, clients=False), tokens=tokens(tmp_path)
    ) as s:
        anyone = ClientTls(pki / "ca.crt")
        assert await outcome(s.client(WRITER, tls=anyone), write=True) is FINE
        assert await outcome(s.client(tls=anyone), write=False) is UNKNOWN


async def test_a_refusal_says_why_to_programs(tmp_path: Path) -> None:
    async with serving(tmp_path, ticks=0, tokens=tokens(tmp_path)) as stage:
        reasons = []
        for token in (None, WRONG, READER):
            async with stage.client(token) as client:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await client.resume()
            [info] = details_of(caught.value)
            assert isinstance(info, details.ErrorInfo)
            assert info.domain == "eigenmesh"
            reasons.append(info.reason)
    assert reasons == ["CREDENTIALS_MISSING", "CREDENTIALS_INVALID", "ROLE_MISSING"]


@pytest.mark.parametrize(
    ("shown", "who"),
    [
        ([f"Bearer {WRITER}"], "ann"),
        ([f"bearer  {WRITER} "], "ann"),
        ([f"Basic {WRITER}"], None),
        ([WRITER], None),
        ([""], None),
        (["Bearer "], None),
        ([f"Bearer {WRITER}", f"Bearer {READER}"], None),
        (["Bearer \ud83d\ude00é"], None),
    ],
)
def test_how_a_token_is_shown(tmp_path: Path, shown: list[str], who: str | None) -> None:
    settings = ApiListen.model_validate({"listen": "127.0.0.1:0", "tokens": tokens(tmp_path)})
    access = Access(settings)
    if who is None:
        with pytest.raises(UnknownCallerError):
            access.caller(shown, [])
    else:
        assert access.caller(shown, []).who == who


def test_a_star_is_text_without_a_slash(tmp_path: Path, pki: Path) -> None:
    tls = {**served_tls(pki), "roles": {"spiffe://m/*/ops": "write", "*.example": "read"}}
    access = Access(ApiListen.model_validate({"listen": "127.0.0.1:0", "tls": tls}))
    assert access.caller([], ["spiffe://m/a.b/ops"]).role is Role.WRITE
    assert access.caller([], ["x.example"]).role is Role.READ
    assert access.caller([], ["x.example", "spiffe://m/a/ops"]).role is Role.WRITE
    for name in ("spiffe://m/a/b/ops", "spiffe://m/a/ops/x", "xexample", "example"):
        with pytest.raises(UnknownCallerError):
            access.caller([], [name])
