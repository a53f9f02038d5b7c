"""Envoy with a given bootstrap, the probes sent to it, and what they answered, to be compared."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import quote

import grpc

from eigenmesh.demo.processes import ChildProcess, envoy_binary, http_get

from .corpus import Filled, Probe
from .upstreams import Upstreams, websocket_accept

_TIMEOUT = 10.0
# What differs between any two requests: times, identities, and the length of what names them.
_VOLATILE = {"date", "x-envoy-upstream-service-time", "x-request-id", "content-length"}
_HTTP_RETRY = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True)
class Answer:
    """All that a probe's requests brought back.

    headers: of responses. heard: what the upstreams that answered received. bodies: of responses
    that no upstream gave. Each as a set over all requests, without what differs every time.
    """

    status: frozenset[str]
    upstreams: frozenset[str]
    headers: frozenset[tuple[str, str]] = frozenset()
    heard: frozenset[tuple[str, str]] = frozenset()
    bodies: frozenset[str] = frozenset()
    mirrored: frozenset[str] = frozenset()


@dataclass
class _Gathered:
    status: set[str] = field(default_factory=set)
    upstreams: Counter[str] = field(default_factory=Counter)
    headers: set[tuple[str, str]] = field(default_factory=set)
    heard: set[tuple[str, str]] = field(default_factory=set)
    bodies: set[str] = field(default_factory=set)

    def response(
        self,
        probe: Probe,
        status: object,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        self.status.add(str(status))
        given = [(k.lower(), v) for k, v in headers]
        skip = _VOLATILE | set(probe.varying)
        self.headers.update((k, v) for k, v in given if k not in {*skip, "x-upstream"})
        names = [v for k, v in given if k == "x-upstream"]
        self.upstreams.update(names)
        if dict(given).get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if not names:
            self.bodies.add(body.decode(errors="replace"))
        elif body.lstrip().startswith(b"{"):
            heard = json.loads(body)
            received = [(k, v) for k, v in heard["headers"] if k not in skip]
            self.heard.update((f"header {k}", v) for k, v in received)
            self.heard.update((k, str(heard[k])) for k in ("method", "path", "sni"))


def run_probe(probe: Probe, filled: Filled, upstreams: Upstreams) -> Answer:
    """Sends the probe's requests one after another."""
    before = Counter(upstreams.hits)
    gathered = _Gathered()
    _SENDERS[probe.kind](probe, filled, gathered)
    mirrored: set[str] = set()
    if probe.mirrored is not None:
        # A copy is not waited for by Envoy: it may arrive after the answer.
        deadline = time.monotonic() + 5.0
        while True:
            hit = upstreams.hits - before
            mirrored = {name for name, n in hit.items() if n > gathered.upstreams[name]}
            if mirrored >= set(probe.mirrored) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
    return Answer(
        status=frozenset(gathered.status),
        upstreams=frozenset(gathered.upstreams),
        headers=frozenset(gathered.headers),
        heard=frozenset(gathered.heard),
        bodies=frozenset(gathered.bodies),
        mirrored=frozenset(mirrored),
    )


def mismatches(probe: Probe, answer: Answer) -> list[str]:
    """How the answer differs from what the probe declares; one line each."""
    found = []

    def expect(what: str, wanted: object, got: object) -> None:
        if wanted != got:
            found.append(f"{probe.name}: {what}: declared {wanted!r}, got {got!r}")

    def expect_header(what: str, wanted: str, got: set[str]) -> None:
        """`~` begins a regular expression."""
        pattern = wanted.removeprefix("~") if wanted.startswith("~") else re.escape(wanted)
        if not got or not all(re.fullmatch(pattern, value) for value in got):
            expect(what, wanted, got)

    expect("status", sorted(probe.status), sorted(answer.status))
    if isinstance(probe.upstreams, int):
        expect("number of upstreams", probe.upstreams, len(answer.upstreams))
    elif probe.upstreams is not None:
        expect("upstreams", sorted(probe.upstreams), sorted(answer.upstreams))
    for name, value in probe.response.items():
        expect_header(f"header {name}", value, _values(answer.headers, name))
    for name in probe.absent:
        expect(f"header {name}", set(), _values(answer.headers, name))
    for key in ("path", "sni"):
        if key in probe.echo:
            wanted = probe.echo[key]
            wanted = set(wanted) if isinstance(wanted, list) else {wanted}
            expect(f"{key} upstream", wanted, _values(answer.heard, key))
    received = dict(probe.echo.get("headers", {}))
    if "host" in probe.echo:
        received["host"] = probe.echo["host"]
    for name, value in received.items():
        expect_header(f"header {name} upstream", value, _values(answer.heard, f"header {name}"))
    for name in probe.echo.get("absent", ()):
        expect(f"header {name} upstream", set(), _values(answer.heard, f"header {name}"))
    if probe.mirrored is not None:
        expect("mirrored", sorted(probe.mirrored), sorted(answer.mirrored))
    if probe.body is not None:
        expect("body", {probe.body}, set(answer.bodies))
    return found


def changes(probe: Probe, before: Answer, after: Answer) -> list[str]:
    """How two answers to the same probe differ; one line each."""
    lines = []
    for part in ("status", "upstreams", "headers", "heard", "bodies", "mirrored"):
        if part == "upstreams" and probe.upstreams is None:
            continue
        one, two = getattr(before, part), getattr(after, part)
        if one != two:
            gone, new = sorted(one - two), sorted(two - one)
            lines.append(f"{probe.name}: {part}: only before {gone!r}, only after {new!r}")
    return lines


def _values(pairs: frozenset[tuple[str, str]], name: str) -> set[str]:
    return {value for key, value in pairs if key == name}


# -- senders --------------------------------------------------------------------------------------


def _context(probe: Probe, filled: Filled) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(filled.certificates / "ca.crt"))
    if probe.client_cert:
        context.load_cert_chain(
            filled.certificates / "client.crt", filled.certificates / "client.key"
        )
    if probe.sni:
        context.check_hostname = False
    return context


def _connect(probe: Probe, filled: Filled) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", filled.ports[probe.port]), _TIMEOUT)
    # Without it Nagle and delayed ACKs cost 40 ms a request.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if probe.tls is None:
        return connection
    name = probe.sni or probe.tls
    return _context(probe, filled).wrap_socket(connection, server_hostname=name)


class _Connection(http.client.HTTPConnection):
    """http.client over a connection of our own making."""

    def __init__(self, probe: Probe, filled: Filled) -> None:
        super().__init__("127.0.0.1", filled.ports[probe.port], timeout=_TIMEOUT)
        self._make: Callable[[], socket.socket] = lambda: _connect(probe, filled)

    def connect(self) -> None:
        self.sock = self._make()


def _send_http(probe: Probe, filled: Filled, gathered: _Gathered) -> None:
    connection = _Connection(probe, filled)
    headers = {"host": probe.host if probe.tls is None else _tls_host(probe), **probe.headers}
    body = b"x" * probe.body_bytes if probe.body_bytes else None
    try:
        for _ in range(probe.times):
            try:
                response = _request(connection, probe, headers, body)
            except (ssl.SSLError, *_HTTP_RETRY):
                gathered.response(probe, "refused")
                continue
            gathered.response(probe, response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def _tls_host(probe: Probe) -> str:
    default = Probe.__dataclass_fields__["host"].default
    return cast(str, probe.tls) if probe.host == default else probe.host


def _request(
    connection: _Connection, probe: Probe, headers: Mapping[str, str], body: bytes | None
) -> http.client.HTTPResponse:
    fresh = connection.sock is None
    try:
        connection.request(probe.method, probe.path, body=body, headers=dict(headers))
        return connection.getresponse()
    except _HTTP_RETRY:
        connection.close()
        if fresh:
            raise
        # Envoy closed the idle connection as it may; a new one must do.
        connection.request(probe.method, probe.path, body=body, headers=dict(headers))
        return connection.getresponse()


def _send_grpc(probe: Probe, filled: Filled, gathered: _Gathered) -> None:
    metadata = tuple(probe.headers.items())
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{filled.ports[probe.port]}", options) as channel:
        call = channel.unary_unary(
            probe.path, request_serializer=bytes, response_deserializer=bytes
        )
        for _ in range(probe.times):
            try:
                answer = call(b"ping", timeout=_TIMEOUT, metadata=metadata)
                name = answer.split()[0].decode()
                assert answer == name.encode() + b" ping"
                gathered.response(probe, "OK", [("x-upstream", name)])
            except grpc.RpcError as error:
                gathered.response(probe, cast(grpc.Call, error).code().name)


def _send_websocket(probe: Probe, filled: Filled, gathered: _Gathered) -> None:
    for _ in range(probe.times):
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        with _connect(probe, filled) as connection:
            lines = [
                *(f"GET {probe.path} HTTP/1.1", f"host: {probe.host}", "connection: upgrade"),
                *("upgrade: websocket", "sec-websocket-version: 13", f"sec-websocket-key: {key}"),
                *(f"{k}: {v}" for k, v in probe.headers.items()),
            ]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            if response.status != 101:
                gathered.response(probe, response.status, response.getheaders(), response.read())
                continue
            assert response.headers["sec-websocket-accept"] == websocket_accept(key)
            gathered.response(probe, 101, response.getheaders())
            mask, payload = b"\1\2\3\4", b"hello"
            masked = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
            connection.sendall(struct.pack("!BB", 0x81, 0x80 | len(payload)) + mask + masked)
            assert _receive(connection, 7) == b"\x81\x05hello"


def _send_tcp(probe: Probe, filled: Filled, gathered: _Gathered) -> None:
    for _ in range(probe.times):
        with _connect(probe, filled) as connection:
            connection.sendall(b"hello\n")
            name, _, rest = _line(connection).partition(b" ")
            assert rest == b"hello\n", rest
            gathered.response(probe, 200, [("x-upstream", name.decode())])


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and (more := connection.recv(4096)):
        data += more
    return data


_SENDERS: dict[str, Callable[[Probe, Filled, _Gathered], None]] = {
    "http": _send_http,
    "grpc": _send_grpc,
    "websocket": _send_websocket,
    "tcp": _send_tcp,
}


# -- Envoy ----------------------------------------------------------------------------------------


class Envoy(ChildProcess):
    """The embedded Envoy with this bootstrap, byte for byte. Ready when Envoy says so."""

    def __init__(self, bootstrap: str, admin_port: int, folder: Path) -> None:
        path = folder / f"bootstrap-{os.urandom(4).hex()}.yaml"
        path.write_text(bootstrap)
        self.admin_port = admin_port
        argv = [
            *(str(envoy_binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"),
            *("--log-level", "warning", "--drain-time-s", "1"),
        ]
        super().__init__(
            "envoy",
            argv,
            log=path.with_suffix(".log"),
            ready_port=admin_port,
            ready_path="/ready",
            ready_timeout=20.0,
        )

    def admin(self, path: str) -> str:
        status, body = http_get(self.admin_port, path, timeout=10.0)
        assert status == 200, body
        return body

    def limits(self) -> dict[str, dict[str, dict[str, int]]]:
        """cluster -> priority -> breaker limits in force, from the admin's /clusters."""
        found: dict[str, dict[str, dict[str, int]]] = {}
        pattern = r"^(.+)::(default|high)_priority::(max_\w+)::(\d+)$"
        for cluster, priority, name, value in re.findall(pattern, self.admin("/clusters"), re.M):
            found.setdefault(cluster, {}).setdefault(priority, {})[name] = int(value)
        return found

    def splits(self) -> dict[str, list[dict[str, int]]]:
        """Route configuration -> the weights of its every split, as Envoy has them by RDS."""
        dump = json.loads(self.admin("/config_dump?resource=dynamic_route_configs"))
        found: dict[str, list[dict[str, int]]] = {}
        for config in dump.get("configs", []):
            # Two sources may give tables of one name.
            table = config["route_config"]
            found.setdefault(table["name"], []).extend(_splits(table))
        return found

    def counters(self, pattern: str) -> set[str]:
        """Names of the counters that match the regular expression."""
        text = self.admin(f"/stats?type=Counters&filter={quote(pattern)}")
        return {line.rpartition(": ")[0] for line in text.splitlines()}

    def settle(self, gauges: Mapping[str, int]) -> None:
        """Waits until these gauges have these values. Raises AssertionError if they never do."""
        deadline = time.monotonic() + _TIMEOUT
        while gauges:
            text = self.admin("/stats?type=Gauges")
            found = {name: re.search(rf"^{re.escape(name)}: (\d+)$", text, re.M) for name in gauges}
            values = {name: int(match[1]) for name, match in found.items() if match}
            if values == dict(gauges):
                return
            assert time.monotonic() < deadline, f"still {values}, wanted {dict(gauges)}"
            time.sleep(0.02)


def _splits(data: object) -> Iterator[dict[str, int]]:
    if isinstance(data, dict):
        if split := data.get("weighted_clusters"):
            yield {c.get("name", ""): c.get("weight", 0) for c in split["clusters"]}
        for value in data.values():
            yield from _splits(value)
    elif isinstance(data, list):
        for value in data:
            yield from _splits(value)


def limit_mismatches(
    declared: Mapping[str, Mapping[str, Mapping[str, int]]],
    got: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> list[str]:
    """Declared breaker limits that are not in force; one line each."""
    return [
        f"{cluster} {priority} {name}: declared {value}, got {got[cluster][priority][name]}"
        for cluster, priorities in declared.items()
        for priority, limits in priorities.items()
        for name, value in limits.items()
        if got[cluster][priority][name] != value
    ]
