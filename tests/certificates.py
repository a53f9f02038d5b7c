"""Certificates for the tests, made with the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_authority(folder: Path, name: str = "ca") -> None:
    """A certificate authority: NAME.crt and NAME.key."""
    _openssl(folder, name)


def make_certificate(folder: Path, name: str, names: str, *, authority: str = "ca") -> None:
    """NAME.crt and NAME.key, signed by an authority in the same folder.

    names: what the certificate is for, in openssl's words, such as DNS:a.example,IP:127.0.0.1.
    """
    _openssl(
        folder,
        name,
        *("-CA", str(folder / f"{authority}.crt"), "-CAkey", str(folder / f"{authority}.key")),
        *("-addext", f"subjectAltName={names}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )


def _openssl(folder: Path, name: str, *options: str) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", f"/O=eigenmesh test/CN={name}"),
            *("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")),
            *options,
        ],
        check=True,
        capture_output=True,
    )
