"""TLS in the settings: what must be there, and that an adopted Envoy speaks it too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from eigenmesh.control.adopt import adopt
from eigenmesh.control.joining import client_tls
from eigenmesh.control.settings import Settings, SettingsError, parse_document
from eigenmesh.xds.client_tls import ClientTls

from ..certificates import make_authority, make_certificate
from .test_settings import document


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_authority(folder)
    for name in ("server", "other"):
        make_certificate(folder, name, "DNS:eigenmesh.example")
    (folder / "empty").write_text("")
    whole = (folder / "server.crt").read_text()
    (folder / "half.crt").write_text(whole[: len(whole) // 2])
    (folder / "commented.crt").write_text(f"subject: Müller\n{whole}")
    subprocess.run(
        [
            *("openssl", "ec", "-aes128", "-passout", "pass:secret"),
            *("-in", str(folder / "server.key"), "-out", str(folder / "locked.key")),
        ],
        check=True,
        capture_output=True,
    )
    return folder


def served(pki: Path, **changes: str | None) -> dict[str, Any]:
    """`xds.tls` with these file names; None leaves one out."""
    names = {"certificate": "server.crt", "private_key": "server.key", **changes}
    return {
        key: value if key == "identity" else str(pki / value)
        for key, value in names.items()
        if value is not None
    }


def settings(
    xds: dict[str, Any] | None = None, node: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {**document(), "xds": {"listen": "127.0.0.1:18000", **(xds or {})}, "node": node or {}}


def parse(*args: Any, **kwargs: Any) -> Settings:
    return parse_document(settings(*args, **kwargs), "eigenmesh.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"certificate": "none.crt"}, ["xds.tls.certificate", "none.crt", "No such file"]),
        ({"private_key": "none.key"}, ["xds.tls.private_key", "none.key", "No such file"]),
        ({"client_ca": "none.crt"}, ["xds.tls.client_ca", "none.crt", "No such file"]),
        ({"certificate": "."}, ["xds.tls.certificate", "cannot be read"]),
        ({"certificate": "empty"}, ["xds.tls.certificate", "no certificate in PEM"]),
        ({"certificate": "half.crt"}, ["xds.tls.certificate", "no certificate in PEM"]),
        ({"certificate": "server.key"}, ["xds.tls.certificate", "no certificate in PEM"]),
        ({"client_ca": "empty"}, ["xds.tls.client_ca", "no certificate in PEM"]),
        ({"private_key": "empty"}, ["xds.tls.private_key", "no private key in PEM"]),
        ({"private_key": "locked.key"}, ["xds.tls.private_key", "without a passphrase"]),
        ({"private_key": "other.key"}, ["xds.tls.private_key", "not the key of", "server.crt"]),
        ({"private_key": None}, ["xds.tls.private_key", "missing"]),
        ({"client_ca": "ca.crt", "identity": "{name}"}, ["xds.tls.identity", "{name}", "{id}"]),
        ({"identity": "{id}"}, ["xds.tls", "identity", "client_ca"]),
        ({"certificat": "server.crt"}, ["xds.tls.certificat", "did you mean 'certificate'?"]),
    ],
)
def test_a_mistake_is_one_line_with_file_field_value_and_remedy(
    pki: Path, changes: dict[str, str | None], words: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"tls": served(pki, **changes)})
    [line] = caught.value.lines
    assert line.startswith("eigenmesh.yaml: ")
    for word in words:
        assert word in line, line


def test_certificates_may_have_comments_around_them(pki: Path) -> None:
    made = parse({"tls": served(pki, certificate="commented.crt")})
    assert made.certificates is not None


def test_a_node_is_its_certificates_unless_told_otherwise(pki: Path) -> None:
    tls = parse({"tls": served(pki, client_ca="ca.crt")}).model.xds.tls
    assert tls is not None
    assert tls.identity == "{id}"


def test_with_tls_a_public_address_needs_no_leave_and_no_warning(pki: Path) -> None:
    public = {"listen": "0.0.0.0:18000"}
    assert parse({**public, "tls": served(pki, client_ca="ca.crt")}).warnings == ()
    # Secret, but open to everybody.
    [line] = parse({**public, "tls": served(pki)}).warnings
    assert "client_ca" in line
    with pytest.raises(SettingsError, match=r"plain text; set tls, .* public: true"):
        parse(public)


OWN = {"ca": "/pki/ca.crt", "certificate": "/pki/e.crt", "private_key": "/pki/e.key"}


def joining(made: Settings, address: str = "mesh.example:1") -> ClientTls | None:
    return client_tls(made, xds_address=address, folder="/out")


def test_envoys_part_follows_from_the_settings(pki: Path) -> None:
    assert joining(parse()) is None
    tls = {"tls": served(pki, client_ca="ca.crt")}
    assert joining(parse(tls, {"tls": OWN})) == ClientTls(
        "/pki/ca.crt", "mesh.example", "/out", "/pki/e.crt", "/pki/e.key"
    )
    more = {**OWN, "server_name": "other.example", "secrets": "/etc/envoy"}
    made = joining(parse(tls, {"tls": more}))
    assert made is not None
    assert (made.server_name, made.secrets) == ("other.example", "/etc/envoy")


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({}, "node.tls: missing.*node.tls.ca"),
        ({"tls": {"ca": "/pki/ca.crt"}}, "node.tls.certificate: missing.*client_ca"),
    ],
)
def test_what_envoy_lacks_is_said(pki: Path, node: dict[str, Any], words: str) -> None:
    made = parse({"tls": served(pki, client_ca="ca.crt")}, node)
    with pytest.raises(SettingsError, match=words):
        joining(made)


def test_an_address_that_no_certificate_is_for_needs_a_name(pki: Path) -> None:
    made = parse({"tls": served(pki)}, {"tls": OWN})
    with pytest.raises(SettingsError, match=r"server_name: missing.*0\.0\.0\.0"):
        joining(made, "0.0.0.0:18000")
    with pytest.raises(SettingsError, match="both of certificate and private_key"):
        parse(None, {"tls": {"ca": "a", "certificate": "b"}})


def eigenmesh(*args: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "eigenmesh", *map(str, args)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30)


def test_the_command_line_says_both(pki: Path, tmp_path: Path) -> None:
    """`check`: a bad file in one line. `bootstrap`: secrets need a folder."""
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(yaml.safe_dump(settings({"tls": served(pki, private_key="other.key")})))
    done = eigenmesh("check", file)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"eigenmesh: {file}: xds.tls.private_key: ")
    file.write_text(yaml.safe_dump(settings({"tls": served(pki)}, {"tls": OWN})))
    done = eigenmesh("bootstrap", "-c", file)
    assert done.returncode == 1
    assert "use --output FOLDER" in done.stderr


def test_an_adopted_envoy_speaks_tls_when_the_base_settings_say_so(pki: Path) -> None:
    base = {"xds": {"tls": served(pki)}, "node": {"tls": OWN}, "runtime_layer": "mine"}
    own = {
        "node": {"id": "gate-7"},
        "static_resources": {"clusters": document()["envoy"]["clusters"]},
    }
    made = adopt(own, xds_address="mesh.example:1", file="envoy.yaml", base=base, folder="/out")
    assert parse_document(made.settings).certificates is not None
    assert made.settings["node"]["id"] == "gate-7"
    [cluster] = made.bootstrap["static_resources"]["clusters"]
    assert cluster["transport_socket"]["name"] == "envoy.transport_sockets.tls"
    assert sorted(made.secrets) == ["eigenmesh_ca.yaml", "eigenmesh_certificate.yaml"]
    layers = [layer["name"] for layer in made.bootstrap["layered_runtime"]["layers"]]
    assert layers[-1] == "mine"
