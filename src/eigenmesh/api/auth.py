"""Who calls, and what they may do: by a token, by the names in a client certificate, or by none.

Tokens are read where the operator keeps them, for every call: one that is renewed or removed needs
no restart. Nothing that is logged, answered or counted holds one.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eigenmesh.control.api_settings import ApiListen, Role
from eigenmesh.control.listen import is_loopback
from eigenmesh.telemetry.access import AccessError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """who: the name of a token or of a certificate, `local` or `anonymous`."""

    who: str
    role: Role


class UnknownCallerError(Exception):
    """What was shown is nobody's. `reason` is for programs (google.rpc.ErrorInfo)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Access:
    """The rules of the settings."""

    def __init__(self, settings: ApiListen) -> None:
        self._tokens = settings.tokens
        roles = settings.tls.roles if settings.tls else {}
        self._names = [(_pattern(name), role) for name, role in roles.items()]
        who = "local" if is_loopback(settings.listen) else "anonymous"
        role_of_anyone = settings.role_of_anyone
        self._anyone = Caller(who, role_of_anyone) if role_of_anyone else None

    def caller(self, authorization: Sequence[str], names: Iterable[str]) -> Caller:
        """authorization: the values of that header. names: DNS and URI names of the client's
        certificate, which gRPC has verified. The best of the roles counts.

        Raises UnknownCallerError for a token that is nobody's, and when nothing is shown where
        something has to be.
        """
        names = list(names)
        found = [self._certified(names), self._bearer(authorization), self._anyone]
        callers = [one for one in found if one is not None]
        if not callers:
            raise _nobody(names)
        # Who has a name is called by it.
        return next((one for one in callers if one.role is Role.WRITE), callers[0])

    def _bearer(self, authorization: Sequence[str]) -> Caller | None:
        if not authorization or not self._tokens:
            return None
        scheme, _, shown = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer":
            raise UnknownCallerError(
                "CREDENTIALS_INVALID", "write one `authorization: Bearer TOKEN`"
            )
        digest = _digest(shown.strip())
        found = None
        for number, token in enumerate(self._tokens):
            try:
                secret = token.secret().read(f"api.tokens[{number}]")
            except AccessError as error:
                log.error("a token cannot be used: %s", error)
                continue
            # Every token is compared, in a time that tells nothing of any.
            if hmac.compare_digest(_digest(secret), digest):
                found = Caller(token.name, token.role)
        if found is None:
            raise UnknownCallerError(
                "CREDENTIALS_INVALID", "the token is nobody's; ask for a new one"
            )
        return found

    def _certified(self, names: Iterable[str]) -> Caller | None:
        best: Caller | None = None
        for name in names:
            for pattern, role in self._names:
                better = best is None or best.role is not Role.WRITE
                if better and pattern.fullmatch(name):
                    best = Caller(name, role)
        return best


def _nobody(names: Sequence[str]) -> UnknownCallerError:
    if names:
        shown = ", ".join(names)
        message = f"the certificate is for {shown}: give one of these a role in api.tls.roles"
        return UnknownCallerError("CREDENTIALS_INVALID", message)
    return UnknownCallerError("CREDENTIALS_MISSING", "show a token: `authorization: Bearer TOKEN`")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(map(re.escape, name.split("*"))))
