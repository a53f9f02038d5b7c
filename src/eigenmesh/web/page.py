"""The live page: its files, its events, its calls, and who may see and do what."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import mimetypes
from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import web

from eigenmesh.api.auth import UnknownCallerError
from eigenmesh.api.errors import DeniedError
from eigenmesh.api.subject import Subject
from eigenmesh.control.api_settings import ApiListen, Role
from eigenmesh.control.operations import NotFoundError
from eigenmesh.mesh import MeshError
from eigenmesh.web.calls import Calls, failure
from eigenmesh.web.live import Live
from eigenmesh.web.visitors import Visitors

log = logging.getLogger(__name__)

HEARTBEAT = 15.0
"""Seconds after which a silent stream says that it lives."""

MOST_STREAMS = 64
_WRITE_TIMEOUT = 30.0

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """settings: of the API, whose roles hold here too. listen: where the page is, host:port. count:
    called with the method and the code of every call."""

    def __init__(
        self,
        settings: ApiListen,
        listen: str,
        subject: Subject,
        count: Callable[[str, str], None],
    ) -> None:
        self._visitors = Visitors(settings, listen, f"eigenmesh-{subject.id}")
        self._subject = subject
        self._live = Live(subject)
        self._calls = Calls(subject)
        self._count = count
        self._files = {
            file.name: file.read_bytes()
            for file in files("eigenmesh.web").joinpath("static").iterdir()
        }

    @property
    def watchers(self) -> int:
        """Streams that are open."""
        return self._live.watchers

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/", self._file)
        app.router.add_get("/static/{name}", self._file)
        app.router.add_get("/api/events", self._answered(self._events))
        app.router.add_get("/api/history", self._answered(self._history))
        app.router.add_get("/api/session", self._answered(self._session))
        app.router.add_post("/api/session", self._answered(self._sign_in))
        app.router.add_delete("/api/session", self._answered(self._sign_out))
        app.router.add_post("/api/call/{method}", self._answered(self._call))
        app.on_response_prepare.append(_harden)

    def start(self) -> None:
        self._live.start()

    async def stop(self) -> None:
        """Streams end; writes that have begun are finished."""
        await self._live.stop()
        await self._calls.finish()

    def _answered(self, handler: Handler) -> Handler:
        async def answered(request: web.Request) -> web.StreamResponse:
            method, outcome = request.match_info.get("method"), "CANCELLED"
            try:
                answer = await handler(request)
                outcome = "OK"
                return answer
            except (web.HTTPException, ConnectionResetError):
                raise
            except Exception as error:
                outcome, status, body = failure(error)
                if status == 500:
                    log.error("%s failed", request.path, exc_info=error)
                elif isinstance(error, UnknownCallerError | DeniedError):
                    log.warning("%s of %s refused: %s", request.path, request.remote, error)
                return web.json_response(body, status=status)
            finally:
                if method is not None and self._calls.get(method) is not None:
                    self._count(method, outcome)

        return answered

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info.get("name", "index.html")
        content = self._files.get(name)
        if content is None:
            raise web.HTTPNotFound(text="no such file\n")
        tag = hashlib.sha256(content).hexdigest()[:16]
        response = web.Response(
            body=content,
            content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
            charset="utf-8",
        )
        response.etag = tag
        response.headers["Cache-Control"] = "no-cache"
        if any(known.value == tag for known in request.if_none_match or ()):
            return web.Response(status=304, headers={"ETag": f'"{tag}"'})
        return response

    async def _session(self, request: web.Request) -> web.Response:
        """Who the visitor is, what they may do, and whether a token would help."""
        try:
            caller = self._visitors.admit(request, Role.READ)
        except (UnknownCallerError, DeniedError) as error:
            found = {"who": "", "role": "", "message": str(error)}
        else:
            found = {"who": caller.who, "role": caller.role.value, "message": ""}
        return web.json_response({**found, "tokens": self._visitors.tokens})

    async def _sign_in(self, request: web.Request) -> web.Response:
        self._visitors.own(request)
        try:
            token = (await request.json())["token"]
        except (ValueError, KeyError, TypeError):
            token = None
        if not isinstance(token, str):
            raise MeshError("request", "this body", 'send {"token": "..."}')
        response = web.Response(status=204)
        self._visitors.sign_in(request, token, response)
        return response

    async def _sign_out(self, request: web.Request) -> web.Response:
        self._visitors.own(request)
        response = web.Response(status=204)
        self._visitors.sign_out(request, response)
        return response

    async def _call(self, request: web.Request) -> web.Response:
        call = self._calls.get(request.match_info["method"])
        if call is None:
            raise NotFoundError(f"no such call: {request.match_info['method'][:100]}")
        self._visitors.own(request)
        caller = self._visitors.admit(request, call.role)
        answer = await call.run(caller, await request.text())
        return web.Response(text=answer, content_type="application/json")

    async def _history(self, request: web.Request) -> web.Response:
        self._visitors.admit(request, Role.READ)
        name = request.query.get("route", "")
        route = self._subject.topology.route_by_name.get(name)
        if route is None:
            raise NotFoundError(f"no such route is steered: {name[:100]}")
        text = await asyncio.to_thread(json.dumps, self._live.history.of(route))
        return web.Response(text=text, content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """The view, and again when it has changed; who is slow gets the newest only."""
        self._visitors.admit(request, Role.READ)
        if self._live.watchers >= MOST_STREAMS:
            raise web.HTTPServiceUnavailable(text="too many watch\n", headers={"Retry-After": "10"})
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        number = self._live.join()
        try:
            await response.prepare(request)
            while not self._live.closed:
                news = await self._live.after(number, HEARTBEAT)
                try:
                    self._visitors.admit(request, Role.READ)
                except (UnknownCallerError, DeniedError):
                    break  # the token was taken away
                async with asyncio.timeout(_WRITE_TIMEOUT):
                    if news is None:
                        await response.write(b": still here\n\n")
                    else:
                        number, document = news
                        await response.write(b"data: " + document + b"\n\n")
        except (ConnectionResetError, TimeoutError):
            pass
        finally:
            self._live.leave()
        return response


async def _harden(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
