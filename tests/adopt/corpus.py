"""The corpus: complete static Envoy files as operators write them, and what their traffic answers.

`files/NAME.yaml` is an Envoy v3 bootstrap with placeholders; `files/NAME.probes.yaml` beside it
says what it is about, which routes can be steered, and which probes it answers how.

| placeholder | becomes |
|---|---|
| `{{port:NAME}}` | a free TCP port (`admin` is Envoy's own) |
| `{{upstream:NAME}}`, `{{upstream:NAME/KIND}}` | the port of an upstream: http, tls, grpc, tcp |
| `{{nobody:NAME}}` | a port on which nobody listens |
| `{{cert:FILE}}`, `{{pem:FILE}}` | a certificate or key, by path or as a quoted string |
| `{{discovery:FILE}}` | the path of `files/discovery/FILE`, filled in too |
| `{{path:FILE}}` | a path in the scratch folder |
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import yaml

from eigenmesh.demo.processes import free_port

from ..certificates import make_authority, make_certificate

FILES = Path(__file__).parent / "files"
NAMES = sorted(p.name.removesuffix(".probes.yaml") for p in FILES.glob("*.probes.yaml"))
_PLACEHOLDER = re.compile(r"\{\{(\w+):([^}/]+)(?:/(\w+))?\}\}")
_MANY = 30
"""Requests that see every branch of a split: a 30% branch is missed once in 40,000 runs."""

_CERTIFICATES = {
    "www": "DNS:www.shop.example,DNS:shop.example",
    "api": "DNS:*.api.shop.example",
    "origin": "DNS:*.origin.example,DNS:www.shop.example",
    "client": "URI:spiffe://shop.example/cart,DNS:cart.shop.example",
}


class CorpusError(ValueError):
    """A corpus file or its side-car is malformed."""


@dataclass(frozen=True)
class Probe:
    """Requests to one listener, and what comes back.

    port: the listener's placeholder. kind: http, grpc, websocket or tcp. tls: the name that the
    certificate must have; sni: the name to ask for instead. status: one or several; a gRPC code's
    name for grpc; "refused" when the connection is. upstreams: exactly those that answer, or how
    many do, or "any". response, absent: headers of every response. echo: what an upstream
    received: path, host, sni (all of them), headers, absent. mirrored: upstreams that were hit
    without answering. varying: headers that one run need not share with the next.
    """

    name: str
    port: str
    kind: str = "http"
    method: str = "GET"
    path: str = "/"
    host: str = "probe.example"
    headers: Mapping[str, str] = field(default_factory=dict)
    body_bytes: int = 0
    tls: str | None = None
    sni: str | None = None
    client_cert: bool = False
    times: int = 0
    status: frozenset[str] = frozenset({"200"})
    upstreams: tuple[str, ...] | int | None = ()
    response: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    echo: Mapping[str, Any] = field(default_factory=dict)
    mirrored: tuple[str, ...] | None = None
    body: str | None = None
    varying: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        _known(f"probe {data.get('name')}", data, {f.name for f in fields(cls)})
        _known(
            f"probe {data['name']}: echo",
            data.get("echo", {}),
            {"path", "host", "sni", "headers", "absent"},
        )
        values = dict(data)
        status = data.get("status", 200)
        values["status"] = frozenset(map(str, status if isinstance(status, list) else [status]))
        if "upstreams" not in data:
            raise CorpusError(f"probe {data['name']}: say which upstreams answer")
        upstreams = data["upstreams"]
        if isinstance(upstreams, list):
            values["upstreams"] = tuple(upstreams)
        elif upstreams == "any":
            values["upstreams"] = None
        if "times" not in data:
            one = isinstance(upstreams, list) and len(upstreams) < 2
            values["times"] = 1 if one else _MANY
        for key in ("absent", "mirrored", "varying"):
            if key in data:
                values[key] = tuple(data[key])
        return cls(**values)


@dataclass(frozen=True)
class Sidecar:
    """What a corpus file is about and what must hold for it.

    steered: the clusters of each route that can be steered. left_alone: routes with weighted
    clusters that cannot. limits: cluster -> priority -> breaker limits in force. settles: gauges
    that have these values once Envoy is ready for the probes.
    """

    about: str
    steered: list[list[str]]
    probes: list[Probe]
    left_alone: list[str] = field(default_factory=list)
    limits: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    settles: Mapping[str, int] = field(default_factory=dict)


def _known(where: str, data: Mapping[str, Any], keys: set[str]) -> None:
    if unknown := sorted(set(data) - keys):
        raise CorpusError(f"{where}: unknown key {unknown[0]!r}: use one of {sorted(keys)}")


def make_certificates(folder: Path) -> None:
    """A certificate authority (`ca.crt`) and what it signed."""
    make_authority(folder)
    for name, names in _CERTIFICATES.items():
        make_certificate(folder, name, names)


@dataclass(frozen=True)
class Filled:
    """A corpus file with its placeholders filled in."""

    name: str
    text: str
    sidecar: Sidecar
    ports: Mapping[str, int]
    certificates: Path
    scratch: Path


def fill(
    name: str,
    certificates: Path,
    scratch: Path,
    upstream: Callable[[str, str], int] | None = None,
) -> Filled:
    """Fills in the corpus file `name`. upstream: (name, kind) -> port; without, free ports."""
    ports: dict[str, int] = {}
    others: dict[tuple[str, str, str], int] = {}

    def value(match: re.Match[str]) -> str:
        what, which, kind = match[1], match[2], match[3] or "http"
        if what == "port":
            if which not in ports:
                ports[which] = free_port()
            return str(ports[which])
        if what in ("upstream", "nobody"):
            key = (what, which, kind)
            if key not in others:
                served = upstream if what == "upstream" else None
                others[key] = served(which, kind) if served else free_port()
            return str(others[key])
        if what == "cert":
            return str(certificates / which)
        if what == "pem":
            return json.dumps((certificates / which).read_text())
        if what == "path":
            return str(scratch / which)
        if what == "discovery":
            target = scratch / which
            target.write_text(_PLACEHOLDER.sub(value, (FILES / "discovery" / which).read_text()))
            return str(target)
        raise CorpusError(f"{name}: unknown placeholder {match[0]}")

    text = _PLACEHOLDER.sub(value, (FILES / f"{name}.yaml").read_text())
    sidecar = _sidecar(name, _PLACEHOLDER.sub(value, (FILES / f"{name}.probes.yaml").read_text()))
    return Filled(name, text, sidecar, ports, certificates, scratch)


def _sidecar(name: str, text: str) -> Sidecar:
    data = yaml.safe_load(text)
    _known(f"{name}.probes.yaml", data, {f.name for f in fields(Sidecar)})
    return Sidecar(**{**data, "probes": [Probe.parse(p) for p in data["probes"]]})
