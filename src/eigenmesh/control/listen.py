"""Where Eigenmesh listens, in plain text or with TLS, and how Envoy speaks TLS with it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from eigenmesh.control.duration import Seconds
from eigenmesh.control.strict import Strict
from eigenmesh.xds.identity import Identity
from eigenmesh.xds.options import ServerOptions
from eigenmesh.xds.tls import TlsFiles

LongSeconds = Annotated[Seconds, Field(gt=0)]


def _address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("write host:port, for example 127.0.0.1:18000")
    return value


Address = Annotated[str, AfterValidator(_address)]


def is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Listen(Strict):
    listen: Address
    """Address and port."""
    public: bool = False
    """Allow plain text on an address that other machines reach."""

    _remedy: ClassVar = "listen on 127.0.0.1, or set public: true if the network is yours"

    @property
    def exposed(self) -> bool:
        """Other machines reach it, in plain text."""
        return not is_loopback(self.listen)

    @model_validator(mode="after")
    def _loopback_unless_public(self) -> Listen:
        if self.exposed and not self.public:
            raise ValueError(
                f"{self.listen} can be reached from other machines in plain text; {self._remedy}"
            )
        return self


def _identity(value: str) -> str:
    Identity(value)
    return value


class XdsTls(Strict):
    """PEM files, which may be replaced at any time; see `Identity` for who is let in."""

    certificate: Path
    """PEM, the chain, the server's own first. May be replaced at any time."""
    private_key: Path
    """PEM, without a passphrase."""
    client_ca: Path | None = None
    """PEM of who signs the Envoys' certificates, which they need then; unset: they need none."""
    identity: Annotated[str, AfterValidator(_identity)] = "{id}"
    """The name that an Envoy's certificate must have, with the node's `{id}` and `{cluster}`."""

    @model_validator(mode="after")
    def _identity_of_someone(self) -> XdsTls:
        if self.client_ca is None and "identity" in self.model_fields_set:
            raise ValueError("identity: nothing shows it without client_ca; set it too")
        return self

    def files(self) -> TlsFiles:
        return TlsFiles(self.certificate, self.private_key, self.client_ca)


class XdsListen(Listen):
    """See ServerOptions."""

    tls: XdsTls | None = None
    """Of the xDS port; unset: plain text."""
    fallback_after: LongSeconds | None = ServerOptions.fallback_after
    """Until a group that keeps refusing a version is served the last one that it took; null:
    never."""
    write_timeout: LongSeconds = ServerOptions.write_timeout
    """How long an Envoy may leave a response unread before its stream is reset."""
    max_connection_age: LongSeconds | None = ServerOptions.max_connection_age
    """After about which a connection is ended, so that Envoys spread over several servers; unset:
    never."""

    _remedy: ClassVar = f"set tls, {Listen._remedy}"

    def options(self) -> ServerOptions:
        return ServerOptions(self.fallback_after, self.write_timeout, self.max_connection_age)

    @property
    def exposed(self) -> bool:
        return self.tls is None and super().exposed


class NodeTls(Strict):
    """How Envoy speaks TLS with Eigenmesh; see `ClientTls`. Paths as Envoy sees them."""

    ca: str
    """PEM of who signed Eigenmesh's certificate."""
    certificate: str | None = None
    """PEM of Envoy's own; both it and its key, or neither."""
    private_key: str | None = None
    """PEM."""
    server_name: str | None = None
    """Name in Eigenmesh's certificate; unset: the host part of the address under which Envoy
    reaches it."""
    secrets: str | None = None
    """Folder of the secret files; unset: that into which `eigenmesh bootstrap --output` wrote
    them."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> NodeTls:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("give both of certificate and private_key, or neither")
        return self
