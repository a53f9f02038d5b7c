"""The certificates of a port, read again whenever their files changed.

gRPC asks before every handshake whether there is a new certificate; that is when the files are
looked at, so a rotation needs no signal and no timer, and streams that are open live on. Files
that cannot be used (half written, or a key that is not the certificate's) change nothing: the
last good ones serve until there are better ones.
"""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import grpc

log = logging.getLogger(__name__)


class TlsError(ValueError):
    """A file cannot be used. `field` says which: certificate, private_key or client_ca."""

    def __init__(self, field: str, path: Path, remedy: str) -> None:
        super().__init__(f"{field}: {str(path)!r}: {remedy}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files hold, checked to fit together."""

    certificate: bytes
    private_key: bytes
    client_ca: bytes | None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files. certificate: the chain, the server's own first.

    client_ca: certificates of those who sign clients'; None: clients need none.
    """

    certificate: Path
    private_key: Path
    client_ca: Path | None = None

    def read(self) -> Pem:
        """Raises TlsError."""
        before = self.stamp()
        certificate = _read("certificate", self.certificate)
        private_key = _read("private_key", self.private_key)
        client_ca = None if self.client_ca is None else _read("client_ca", self.client_ca)
        _check_certificates("certificate", self.certificate, certificate)
        if self.client_ca is not None and client_ca is not None:
            _check_certificates("client_ca", self.client_ca, client_ca)
        self._check_key()
        # What was checked from disk must be what was read.
        if self.stamp() != before:
            raise TlsError("certificate", self.certificate, "changes while it is read; wait")
        return Pem(certificate, private_key, client_ca)

    def stamp(self) -> tuple[object, ...]:
        """Differs when a file was replaced or written to. Links are followed."""
        paths = (self.certificate, self.private_key, self.client_ca)
        return tuple(_stamp(path) for path in paths if path is not None)

    def _check_key(self) -> None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.certificate, self.private_key, password=_no_password
            )
        except ssl.SSLError as error:
            if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
                remedy = f"not the key of {self.certificate}; give the one it was made with"
            else:
                remedy = "no private key in PEM; give the certificate's, without a passphrase"
            raise TlsError("private_key", self.private_key, remedy) from error
        except OSError as error:
            raise TlsError("private_key", self.private_key, _unreadable(error)) from error


class Certificates:
    """The files' latest usable content. Raises TlsError if there is none to begin with.

    field: of the settings, where the files are named. gRPC calls from threads of its own; every
    method may be called from any.
    """

    def __init__(self, files: TlsFiles, field: str = "xds.tls") -> None:
        self._files = files
        self._field = field
        self._lock = threading.Lock()
        self._stamp = files.stamp()
        self._pem = files.read()
        self._problem = ""

    def problem(self) -> str:
        """Why the files as they are now are not in use; empty when they are."""
        self.current()
        return self._problem

    def current(self) -> Pem:
        """What to serve from now on; looks at the files, reads them if they changed."""
        with self._lock:
            # What failed is tried every time: a clock too coarse could hide that it was mended.
            stamp = self._files.stamp()
            if stamp != self._stamp or self._problem:
                self._reload(stamp)
            return self._pem

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`. With a client_ca, who has no certificate is not let in."""
        import grpc  # a fifth of a second, which `eigenmesh check` can do without

        served = self.current()

        def configuration(pem: Pem) -> Any:
            return grpc.ssl_server_certificate_configuration(
                [(pem.private_key, pem.certificate)], root_certificates=pem.client_ca
            )

        def changed() -> Any:
            nonlocal served
            pem = self.current()
            if pem is served:
                return None
            served = pem
            return configuration(pem)

        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            configuration(served),
            changed,
            require_client_authentication=served.client_ca is not None,
        )
        return credentials

    def _reload(self, stamp: tuple[object, ...]) -> None:
        try:
            self._pem = self._files.read()
        except TlsError as error:
            if str(error) != self._problem:
                log.error("the last good certificate stays in use: %s.%s", self._field, error)
            self._problem = str(error)
            return
        self._stamp, self._problem = stamp, ""
        log.info("a new certificate is in use: %s", self._files.certificate)


def _read(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(field, path, _unreadable(error)) from error


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}; give a PEM file that Eigenmesh may read"


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _check_certificates(field: str, path: Path, pem: bytes) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Comments between the certificates may be in any encoding.
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(field, path, "no certificate in PEM; give one") from error


def _no_password() -> str:
    # Otherwise OpenSSL asks for it on the terminal.
    return ""
