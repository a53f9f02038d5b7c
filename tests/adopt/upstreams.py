"""Small real upstreams: HTTP/1.1 (plain or TLS, with websockets), gRPC and TCP, in one thread.

Every answer names who gave it (`x-upstream`) and tells in a JSON body what was received. A request
steers its answer by headers:

| header | effect |
|---|---|
| `x-answer-status: N` | status N (gRPC: the code's name) |
| `x-answer-bytes: N` | a body of at least N bytes |
| `x-answer-header-NAME: V` | response header NAME |
| `x-fail-on: A,B` with `x-fail-status: N` | N from the upstreams named |
| `x-redirect-once: URL` | 302 to URL, unless this is its path |
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import grpc

_WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
Headers = list[tuple[str, str]]


def websocket_accept(key: str) -> str:
    """RFC 6455, section 4.2.2: what answers a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1((key + _WEBSOCKET_GUID).encode()).digest()).decode()


class Upstreams:
    """Starts an upstream the first time that its name is asked for; `close` ends them all.

    hits: requests (for tcp: connections) that each one got.
    """

    def __init__(self, certificates: Path) -> None:
        self.hits: Counter[str] = Counter()
        self._certificates = certificates
        self._ports: dict[tuple[str, str], int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._grpc: list[grpc.Server] = []

    def port(self, name: str, kind: str) -> int:
        """The port of this upstream. kind: http, tls, grpc or tcp."""
        key = (name, kind)
        if key not in self._ports:
            if kind == "grpc":
                self._ports[key] = self._start_grpc(name)
            else:
                start = asyncio.run_coroutine_threadsafe(self._start(name, kind), self._loop)
                self._ports[key] = start.result(10)
        return self._ports[key]

    def close(self) -> None:
        for server in self._grpc:
            server.stop(None).wait(5)
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self, name: str, kind: str) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving = self._serve_tcp if kind == "tcp" else self._serve_http
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await serving(name, reader, writer)
            writer.close()

        context = self._tls() if kind == "tls" else None
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            self._certificates / "origin.crt", self._certificates / "origin.key"
        )

        def remember(socket: Any, name: str, _: ssl.SSLContext) -> None:
            socket.asked_for = name

        context.sni_callback = remember
        return context

    async def _serve_tcp(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.hits[name] += 1
        while line := await reader.readline():
            writer.write(f"{name} {line.decode()}".encode())
            await writer.drain()

    async def _serve_http(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        sni = getattr(writer.get_extra_info("ssl_object"), "asked_for", None)
        while head := await _head(reader):
            method, path, headers = head
            await _body(reader, dict(headers))
            fields = dict(headers)
            if path != "/healthz":
                self.hits[name] += 1
            if fields.get("upgrade", "").lower() == "websocket":
                await _echo_websocket(name, fields, reader, writer)
                return
            status, extra = _wanted(name, path, fields)
            heard = {"method": method, "path": path, "headers": headers, "sni": sni}
            body = json.dumps(heard).encode()
            body += b" " * (int(fields.get("x-answer-bytes", 0)) - len(body))
            _respond(writer, status, [("x-upstream", name), *extra], body, method)
            await writer.drain()

    def _start_grpc(self, name: str) -> int:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.hits[name] += 1
            metadata = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
            context.set_trailing_metadata((("x-upstream", name),))
            if wanted := metadata.get("x-answer-status"):
                context.abort(grpc.StatusCode[wanted], "as asked")
            return name.encode() + b" " + request

        class Everything(grpc.GenericRpcHandler):  # type: ignore[type-arg]
            def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
                return grpc.unary_unary_rpc_method_handler(answer)

        # Two servers must not share a port unseen.
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((Everything(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._grpc.append(server)
        return port


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, Headers] | None:
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = text.strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return method, path, [(name.lower(), value.strip()) for name, _, value in pairs]


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> None:
    if "chunked" in headers.get("transfer-encoding", ""):
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    elif length := int(headers.get("content-length", 0)):
        await reader.readexactly(length)


def _wanted(name: str, path: str, headers: Mapping[str, str]) -> tuple[int, Headers]:
    """The status and the further headers that the request asks for."""
    prefix = "x-answer-header-"
    extra = [(k.removeprefix(prefix), v) for k, v in headers.items() if k.startswith(prefix)]
    if name in headers.get("x-fail-on", "").split(","):
        return int(headers["x-fail-status"]), extra
    target = headers.get("x-redirect-once")
    if target and urlsplit(target).path != urlsplit(path).path:
        return 302, [*extra, ("location", target)]
    return int(headers.get("x-answer-status", 200)), extra


def _respond(
    writer: asyncio.StreamWriter, status: int, headers: Headers, body: bytes, method: str
) -> None:
    lines = [f"HTTP/1.1 {status} x", "content-type: application/json"]
    lines += [f"content-length: {len(body)}", *(f"{k}: {v}" for k, v in headers)]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if method != "HEAD":
        writer.write(body)


async def _echo_websocket(
    name: str,
    headers: Mapping[str, str],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Accepts, and sends every short frame back unmasked (RFC 6455, section 5.2)."""
    accept = websocket_accept(headers["sec-websocket-key"])
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        f"sec-websocket-accept: {accept}\r\nx-upstream: {name}\r\n\r\n".encode()
    )
    while True:
        first, second = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        payload = bytes(
            b ^ mask[i % 4] for i, b in enumerate(await reader.readexactly(second & 0x7F))
        )
        writer.write(bytes([first, len(payload)]) + payload)
        await writer.drain()
