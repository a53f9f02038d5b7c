"""How a Prometheus server wants to be asked: credentials, headers, TLS.

Secrets and certificates stay where the operator keeps them and are read when they are used: a
token that is renewed in its file needs no restart, and nothing that is logged, recorded or shown
ever holds one.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class AccessError(ValueError):
    """Credentials or certificates cannot be used: `field: where: remedy`, never what is there."""


@dataclass(frozen=True, slots=True)
class Secret:
    """One line of text in a file or in an environment variable; one of the two is given."""

    file: Path | None = None
    env: str | None = None

    def read(self, field: str) -> str:
        """Raises AccessError in the name of `field`."""
        if self.file is not None:
            where = f"{field}.file: {self.file}"
            try:
                text = self.file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise AccessError(f"{where}: cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise AccessError(f"{where}: is not text; put the secret alone in it") from None
        else:
            where = f"{field}.env: {self.env}"
            text = os.environ.get(self.env or "", "").strip()
        if not text:
            raise AccessError(f"{where}: is empty or not set; put the secret there")
        if not text.isprintable():
            raise AccessError(f"{where}: has more than one line; put the secret alone in it")
        return text


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. ca: who signs the server; None: the system's. certificate, private_key: ours.

    server_name: the name in the server's certificate; None: the host of its address.
    """

    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """Reads the files. Raises AccessError."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise _bad("tls.ca", self.ca, error) from None
        if self.certificate is not None:
            try:
                # Without a password an encrypted key would have OpenSSL ask at the terminal.
                context.load_cert_chain(self.certificate, self.private_key, password="")
            except OSError as error:
                raise _bad("tls.certificate", self.certificate, error) from None
        return context


@dataclass(frozen=True, slots=True)
class Access:
    """headers: sent with every request. bearer, or username and password: the credentials."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    bearer: Secret | None = None
    username: str | None = None
    password: Secret | None = None
    tls: Tls | None = None

    def request_headers(self) -> dict[str, str]:
        """Reads the secrets. Raises AccessError."""
        if self.bearer is not None:
            return {**self.headers, "Authorization": f"Bearer {self.bearer.read('bearer')}"}
        if self.password is not None:
            pair = f"{self.username}:{self.password.read('basic.password')}"
            encoded = base64.b64encode(pair.encode()).decode()
            return {**self.headers, "Authorization": f"Basic {encoded}"}
        return dict(self.headers)

    def check(self) -> None:
        """Raises AccessError for what cannot be used now."""
        self.request_headers()
        if self.tls is not None:
            self.tls.context()


OPEN = Access()
"""To whoever asks."""


def _bad(field: str, path: Path | None, error: OSError) -> AccessError:
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    where = f"{field}: {path}: " if path is not None else f"{field}: "
    return AccessError(f"{where}cannot be used: {reason}; name PEM files that belong together")
