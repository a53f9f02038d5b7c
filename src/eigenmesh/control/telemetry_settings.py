"""`telemetry` in the settings: where latency is read, and how one is let in there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, LiteralString
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from eigenmesh.control.duration import Seconds
from eigenmesh.control.strict import Strict
from eigenmesh.telemetry import promql
from eigenmesh.telemetry.access import Access, Secret, Tls

AboveZero = Annotated[Seconds, Field(gt=0)]


class EnvoyTelemetry(Strict):
    """Read latency from Envoy's own /stats/prometheus."""

    admin: list[str] = Field(min_length=1)
    """Addresses of all Envoys' admin ports, such as `http://127.0.0.1:9901`."""
    timeout: AboveZero = 1.0
    """For the answer of one Envoy."""


class _NoSecret(Strict):
    """What is written in its place may be a secret: the complaint must not repeat it."""

    _wanted: ClassVar[LiteralString]

    @model_validator(mode="before")
    @classmethod
    def _mapping(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise PydanticCustomError("secret", cls._wanted)
        return value


class SecretSettings(_NoSecret):
    """Where a secret is, in a file or in an environment variable."""

    _wanted = "write {file: PATH} or {env: NAME}, not the secret itself"

    file: Path | None = None
    """Read anew whenever it is needed."""
    env: str | None = None
    """Name of an environment variable."""

    @model_validator(mode="after")
    def _one_place(self) -> SecretSettings:
        if (self.file is None) == (self.env is None):
            raise ValueError("give exactly one of file and env")
        return self

    def secret(self) -> Secret:
        return Secret(self.file, self.env)


class BasicSettings(_NoSecret):
    _wanted = "write {username: NAME, password: {file: PATH}}"

    username: Annotated[str, Field(pattern=r"^[^:]+$")]
    """Without a colon."""
    password: SecretSettings
    """Where the password is: exactly one of the two."""


class PrometheusTls(Strict):
    """See `Tls`."""

    ca: Path | None = None
    """PEM of who signed the server's certificate; unset: the system's."""
    certificate: Path | None = None
    """PEM of Eigenmesh's own; both it and its key, or neither."""
    private_key: Path | None = None
    """PEM."""
    server_name: str | None = None
    """Name in the server's certificate; unset: the host of the address."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> PrometheusTls:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("give both of certificate and private_key, or neither")
        return self

    def tls(self) -> Tls:
        return Tls(self.ca, self.certificate, self.private_key, self.server_name)


def _valid(check: Callable[[str], None]) -> AfterValidator:
    def validate(text: str) -> str:
        check(text)
        return text

    return AfterValidator(validate)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class PrometheusTelemetry(Strict):
    """Read latency from Prometheus servers that scrape the Envoys; see PrometheusSource."""

    url: Annotated[list[str], Field(min_length=1), BeforeValidator(_listed)]
    """One address, or several servers with the same data."""
    window: AboveZero = 6.0
    """Looked back for samples; best four scrape intervals."""
    timeout: AboveZero = 1.0
    """For the answer, retries and other servers included."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """After the first. Unit: rounds over the servers."""
    selector: Annotated[str, _valid(promql.check_selector)] = ""
    """Label matchers that pick this mesh's series, such as `job="envoy"`."""
    query: Annotated[str, _valid(promql.check_query)] = promql.DEFAULT
    """PromQL; `$matchers` and `$window` are filled in."""
    node_label: str = ""
    """Label whose value is the Envoy's node id, where the series have one."""
    bearer: SecretSettings | None = None
    """Where the bearer token is: exactly one of the two."""
    basic: BasicSettings | None = None
    """User and password; or `bearer`."""
    tls: PrometheusTls | None = None
    """For addresses with https."""
    headers: dict[Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")], str] = {}
    """Sent as they are, such as `X-Scope-OrgID`; credentials belong in `bearer` or `basic`."""

    @model_validator(mode="after")
    def _access(self) -> PrometheusTelemetry:
        # Not in validators of their own: those complaints repeat the value.
        urls = [_split(url) for url in self.url]
        if any(url is None for url in urls):
            raise ValueError("url: write http://host:port or https://host:port, without a user")
        if self.tls is not None and any(url and url.scheme != "https" for url in urls):
            raise ValueError("tls: every url must begin with https://")
        if self.bearer is not None and self.basic is not None:
            raise ValueError("give one of bearer and basic")
        for name, value in self.headers.items():
            if name.lower() == "authorization":
                raise ValueError(f"headers.{name}: use bearer or basic")
            if not value.isprintable():
                raise ValueError(f"headers.{name}: write one line of text")
        return self

    @property
    def in_the_clear(self) -> str | None:
        """The first address to which credentials would go in plain text over a network."""
        if self.bearer is None and self.basic is None:
            return None
        local = ("localhost", "127.0.0.1", "::1")
        return next(
            (u for u in self.url if u.startswith("http:") and urlsplit(u).hostname not in local),
            None,
        )

    def access(self) -> Access:
        return Access(
            headers=self.headers,
            bearer=self.bearer.secret() if self.bearer else None,
            username=self.basic.username if self.basic else None,
            password=self.basic.password.secret() if self.basic else None,
            tls=self.tls.tls() if self.tls else None,
        )


class Telemetry(Strict):
    envoy: EnvoyTelemetry | None = None
    """From the admin endpoints of the Envoys."""
    prometheus: PrometheusTelemetry | None = None
    """From Prometheus, or a store that answers like it."""

    @model_validator(mode="after")
    def _one_source(self) -> Telemetry:
        if (self.envoy is None) == (self.prometheus is None):
            raise ValueError("give exactly one of envoy and prometheus")
        return self


def _split(url: str) -> SplitResult | None:
    """None if it is not the address of a server."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    odd = parts.username or parts.password or parts.query or parts.fragment
    return parts if usable and not odd else None
