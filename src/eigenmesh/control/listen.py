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
    public: bool = False
    """Plain text on an address that other machines reach must be asked for."""

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
    """PEM files, which may be replaced at any time. client_ca: Envoys need a certificate too.

    identity: the name that its certificate must have; see `Identity`.
    """

    certificate: Path
    private_key: Path
    client_ca: Path | None = None
    identity: Annotated[str, AfterValidator(_identity)] = "{id}"

    @model_validator(mode="after")
    def _identity_of_someone(self) -> XdsTls:
        if self.client_ca is None and "identity" in self.model_fields_set:
            raise ValueError("identity: nothing shows it without client_ca; set it too")
        return self

    def files(self) -> TlsFiles:
        return TlsFiles(self.certificate, self.private_key, self.client_ca)


class XdsListen(Listen):
    """See ServerOptions. tls: None for plain text."""

    tls: XdsTls | None = None
    fallback_after: LongSeconds | None = ServerOptions.fallback_after
    write_timeout: LongSeconds = ServerOptions.write_timeout
    max_connection_age: LongSeconds | None = ServerOptions.max_connection_age

    _remedy: ClassVar = f"set tls, {Listen._remedy}"

    def options(self) -> ServerOptions:
        return ServerOptions(self.fallback_after, self.write_timeout, self.max_connection_age)

    @property
    def exposed(self) -> bool:
        return self.tls is None and super().exposed


class NodeTls(Strict):
    """How Envoy speaks TLS with Eigenmesh; see `ClientTls`. Paths as Envoy sees them."""

    ca: str
    certificate: str | None = None
    private_key: str | None = None
    server_name: str | None = None
    """None: the host part of the address under which Envoy reaches Eigenmesh."""
    secrets: str | None = None
    """None: the folder into which `eigenmesh bootstrap --output` wrote them."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> NodeTls:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("give both of certificate and private_key, or neither")
        return self
