"""`api` in the settings: where the gRPC API listens, and who may read and who may write there."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from eigenmesh.control.listen import Listen, is_loopback
from eigenmesh.control.strict import Strict
from eigenmesh.control.telemetry_settings import SecretSettings
from eigenmesh.telemetry.access import AccessError
from eigenmesh.xds.tls import Certificates, TlsError, TlsFiles


class Role(StrEnum):
    """What somebody may do; who may write may read."""

    READ = "read"
    WRITE = "write"

    def covers(self, needed: Role) -> bool:
        return self is Role.WRITE or needed is Role.READ


class TokenSettings(SecretSettings):
    """A secret that is shown with each call."""

    _wanted = "write {name: NAME, role: ROLE, file: PATH}, not the secret itself"

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}$")]
    """By which its holder is known in the audit."""
    role: Role
    """What its holder may do; who may write may read."""


class ApiTls(Strict):
    """PEM files, which may be replaced at any time."""

    certificate: Path
    """PEM, the chain, the server's own first. May be replaced at any time."""
    private_key: Path
    """PEM, without a passphrase."""
    client_ca: Path | None = None
    """PEM of who signs callers' certificates, which they need then; unset: they need none."""
    roles: dict[str, Role] = {}
    """DNS or URI name of a caller's certificate -> role; `*` stands for text without a slash."""

    @model_validator(mode="after")
    def _roles_of_someone(self) -> ApiTls:
        if (self.client_ca is None) != (not self.roles):
            raise ValueError("client_ca says who has a name, roles what it may do; give both")
        return self

    def files(self) -> TlsFiles:
        return TlsFiles(self.certificate, self.private_key, self.client_ca)


class ApiListen(Listen):
    tokens: list[TokenSettings] = []
    """Secrets that callers show, each with a role."""
    tls: ApiTls | None = None
    """Of the API's port; unset: plain text."""
    anonymous: Role | None = None
    """Role of whoever shows nothing; unset: `write` on loopback where neither `tokens` nor
    `client_ca` are set, nothing otherwise."""

    _remedy: ClassVar = f"set tls, {Listen._remedy}"

    @property
    def exposed(self) -> bool:
        return self.tls is None and super().exposed

    @property
    def authenticates(self) -> bool:
        return bool(self.tokens) or (self.tls is not None and self.tls.client_ca is not None)

    @property
    def role_of_anyone(self) -> Role | None:
        """Of whoever reaches it and shows nothing."""
        if self.anonymous is None and not self.authenticates and is_loopback(self.listen):
            return Role.WRITE
        return self.anonymous

    @model_validator(mode="after")
    def _someone(self) -> ApiListen:
        names = [token.name for token in self.tokens]
        if len(set(names)) < len(names):
            raise ValueError("tokens: give each a name of its own")
        if not self.authenticates and self.role_of_anyone is None:
            raise ValueError(
                f"{self.listen} can be reached from other machines by anybody; set tokens or "
                "tls.client_ca, listen on 127.0.0.1, or say what they may: anonymous: read"
            )
        return self

    def warnings(self) -> Iterator[str]:
        """What an operator should know but may want."""
        if self.anonymous is not None and not is_loopback(self.listen):
            yield f"api.anonymous: whoever reaches {self.listen} may {self.anonymous}"

    def check(self) -> None:
        """Raises AccessError for secrets and certificates that cannot be used now."""
        seen: dict[str, str] = {}
        for number, token in enumerate(self.tokens):
            field = f"tokens[{number}]"
            if (other := seen.setdefault(token.secret().read(field), field)) != field:
                raise AccessError(f"{field}: the same secret as {other}; give each its own")
        try:
            self.certificates()
        except TlsError as error:
            raise AccessError(f"tls.{error}") from error

    def certificates(self) -> Certificates | None:
        """None for plain text. Raises TlsError."""
        return Certificates(self.tls.files(), "api.tls") if self.tls else None
