"""Who opens the page, and what they may do there: the rules of `api` in the settings hold, and
those that a browser needs besides.

A browser shows what it holds to whoever makes it call. So a token is shown once, for a session that
a same-site cookie names; what changes anything must come from the page itself (its own header, its
own Origin); and who shows nothing must have called an address, not a name that somebody else's DNS
may have pointed here.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from aiohttp import web
from yarl import URL

from eigenmesh.api.auth import Access, Caller, UnknownCallerError
from eigenmesh.api.errors import DeniedError
from eigenmesh.control.api_settings import ApiListen, Role

HEADER = "X-Eigenmesh"
"""What a form or a picture on another site cannot send."""

LIFETIME = 12 * 3600.0
"""Seconds that a session lasts."""

MOST_SESSIONS = 200


@dataclass(frozen=True, slots=True)
class _Session:
    authorization: str
    until: float


class Visitors:
    """settings: who may do what. listen: where the page is, host:port. cookie: its name; cookies of
    one host are shared by all of its ports. clock: steady seconds."""

    def __init__(
        self,
        settings: ApiListen,
        listen: str,
        cookie: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # What nobody has to show a token for depends on who can reach the page, not the API.
        self._access = Access(settings.model_copy(update={"listen": listen}))
        self._cookie = cookie
        self._clock = clock
        self._sessions: dict[str, _Session] = {}
        self.tokens = bool(settings.tokens)

    def admit(self, request: web.Request, role: Role) -> Caller:
        """Who asks, if they may. Raises UnknownCallerError or DeniedError."""
        caller = self._caller(request)
        if not caller.role.covers(role):
            raise DeniedError(f"{caller.who} may {caller.role}; this needs the role {role}")
        return caller

    def own(self, request: web.Request) -> None:
        """Raises DeniedError unless the page, or no browser at all, sent it."""
        if HEADER not in request.headers:
            raise DeniedError(f"send the header {HEADER}: 1; other sites cannot")
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise DeniedError(
                f"{origin[:100]} is another site's; open the page that is served here"
            )

    def sign_in(self, request: web.Request, token: str, response: web.StreamResponse) -> Caller:
        """Begins a session. Raises UnknownCallerError for a token that is nobody's."""
        if not self.tokens:
            raise UnknownCallerError("CREDENTIALS_INVALID", "no tokens are set; see api.tokens")
        authorization = f"Bearer {token}"
        caller = self._access.caller([authorization], ())
        self._forget(request)
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]  # the oldest
        name = secrets.token_urlsafe(32)
        self._sessions[name] = _Session(authorization, self._clock() + LIFETIME)
        response.set_cookie(
            self._cookie, name, max_age=int(LIFETIME), httponly=True, samesite="Strict", path="/"
        )
        return caller

    def sign_out(self, request: web.Request, response: web.StreamResponse) -> None:
        self._forget(request)
        response.del_cookie(self._cookie, path="/")

    def _caller(self, request: web.Request) -> Caller:
        shown = request.headers.getall("Authorization", [])
        if not shown and (session := self._session(request)) is not None:
            try:
                return self._access.caller([session.authorization], ())
            except UnknownCallerError:
                self._forget(request)  # the token was taken away
        if not shown and not _is_address(request.host):
            raise DeniedError(
                f"{request.host[:100]} is a name: without a token, call the page by its address "
                "or as localhost"
            )
        return self._access.caller(shown, ())

    def _session(self, request: web.Request) -> _Session | None:
        session = self._sessions.get(request.cookies.get(self._cookie, ""))
        return session if session is not None and session.until > self._clock() else None

    def _forget(self, request: web.Request) -> None:
        self._sessions.pop(request.cookies.get(self._cookie, ""), None)


def _is_address(host: str) -> bool:
    """Of a Host header: no DNS server had a say in who is called."""
    try:
        name = URL(f"http://{host}").host or ""
        if name == "localhost":
            return True
        ip_address(name)
    except ValueError:
        return False
    return True
