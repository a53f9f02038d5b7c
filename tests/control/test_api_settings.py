"""`api` in the settings: nobody is let in by an oversight, and no secret is in the complaint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from eigenmesh.control.api_settings import Role
from eigenmesh.control.settings import Settings, SettingsError, parse_document

from ..certificates import make_authority, make_certificate
from .test_settings import document


def parse(**api: Any) -> Settings:
    return parse_document({**document(), "api": {"listen": "127.0.0.1:18001", **api}}, "e.yaml")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_authority(folder)
    make_certificate(folder, "server", "DNS:eigenmesh.example")
    (folder / "token").write_text("a-secret-of-some-length\n")
    (folder / "empty").write_text("\n")
    return folder


def token(pki: Path, **changes: Any) -> dict[str, Any]:
    return {"name": "ann", "role": "write", "file": str(pki / "token"), **changes}


def tls(pki: Path, **changes: Any) -> dict[str, Any]:
    files = {"certificate": str(pki / "server.crt"), "private_key": str(pki / "server.key")}
    return {**files, **changes}


PUBLIC = {"listen": "0.0.0.0:18001", "public": True}


def test_on_loopback_nothing_is_asked_for() -> None:
    assert parse().model.api.role_of_anyone is Role.WRITE


def test_elsewhere_somebody_must_be_named(pki: Path) -> None:
    remedy = "set tokens or tls.client_ca, listen on 127.0.0.1, or .*anonymous: read"
    for open_to_all in (PUBLIC, {**PUBLIC, "tls": tls(pki)}):
        with pytest.raises(SettingsError, match=remedy):
            parse(**open_to_all)
    with pytest.raises(SettingsError, match=r"plain text; set tls"):
        parse(listen="0.0.0.0:18001", tokens=[token(pki)])
    assert parse(**PUBLIC, tokens=[token(pki)]).model.api.role_of_anyone is None
    made = parse(listen="0.0.0.0:1", tls=tls(pki), tokens=[token(pki)])
    assert made.warnings == ()
    assert parse(tokens=[token(pki)]).model.api.role_of_anyone is None, "nor on loopback"


def test_what_anyone_may_is_said_aloud(pki: Path) -> None:
    made = parse(**PUBLIC, anonymous="read")
    assert made.model.api.role_of_anyone is Role.READ
    assert any("may read" in line for line in made.warnings)


def test_so_is_what_anyone_may_by_the_page() -> None:
    everywhere = {"listen": "0.0.0.0:18002", "public": True}
    api = {"listen": "127.0.0.1:18001", "anonymous": "write"}
    made = parse_document({**document(), "api": api, "http": everywhere}, "e.yaml")
    assert any("0.0.0.0:18002 may write, by the page" in line for line in made.warnings)


@pytest.mark.parametrize(
    ("api", "words"),
    [
        ({"tokens": ["s3cret"]}, ["api.tokens[0]", "not the secret itself"]),
        ({"tokens": [{"name": "a", "role": "write"}]}, ["api.tokens[0]", "exactly one of"]),
        ({"tokens": [{"role": "write", "env": "T"}]}, ["api.tokens[0].name", "missing"]),
        ({"tokens": [{"name": "a", "role": "admin", "env": "T"}]}, ["tokens[0].role", "admin"]),
        ({"tokens": [{"name": "a", "role": "read", "token": "s3cret"}]}, ["tokens[0].token"]),
        ({"tokens": [{"name": "a b", "role": "read", "env": "T"}]}, ["tokens[0].name"]),
        ({"tokens": [{"name": "a", "role": "read", "env": "NOT_SET"}]}, ["env: NOT_SET", "empty"]),
        ({"tokens": [{"name": "a", "role": "read", "file": "/none"}]}, ["/none", "cannot be read"]),
        ({"anonymous": "admin"}, ["api.anonymous", "admin"]),
    ],
)
def test_a_mistake_is_one_line_without_the_secret(api: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(**api)
    assert all(word in caught.value.lines[0] for word in words), caught.value.lines
    assert "s3cret" not in str(caught.value)


def test_two_must_not_be_one(pki: Path) -> None:
    with pytest.raises(SettingsError, match="give each a name of its own"):
        parse(tokens=[token(pki), token(pki)])
    with pytest.raises(SettingsError, match=r"api.tokens\[1\]: the same secret as tokens\[0\]"):
        parse(tokens=[token(pki), token(pki, name="bob")])
    with pytest.raises(SettingsError, match="is empty"):
        parse(tokens=[token(pki, file=str(pki / "empty"))])


def test_certificates_are_checked_with_the_settings(pki: Path) -> None:
    with pytest.raises(SettingsError, match=r"api.tls.private_key: .*ca.key.*not the key of"):
        parse(tls=tls(pki, private_key=str(pki / "ca.key")))
    for half in ({"client_ca": str(pki / "ca.crt")}, {"roles": {"a.example": "read"}}):
        with pytest.raises(SettingsError, match="give both"):
            parse(tls=tls(pki, **half))
    whole = tls(pki, client_ca=str(pki / "ca.crt"), roles={"a.example": "read"})
    assert parse(**PUBLIC, tls=whole).model.api.role_of_anyone is None


def test_check_refuses_an_open_door(tmp_path: Path) -> None:
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(yaml.safe_dump({**document(), "api": PUBLIC}))
    command = [sys.executable, "-m", "eigenmesh", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "api" in line
    assert "set tokens" in line
