"""Asks Prometheus servers: one after the other, again if need be, and never for longer than told.

The server that answered is asked first the next time, so that consecutive windows come from one
store, until it fails. A server that refuses (a wrong password, a path that is not there) is not
asked twice; one that is not there, busy or slow is, after a pause that differs every time.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

from eigenmesh.telemetry.access import Access, AccessError

PAUSE = 0.05
"""Seconds before the first retry, on average; doubled for each one after it."""

_ABOUT_THE_QUERY = (400, 422)
"""What the Prometheus HTTP API answers to a query that is wrong: everyone would."""

_REFUSED = (401, 403)


class UnansweredError(Exception):
    """No server gave an answer; the text says why each did not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """server: its address. others: why those that were asked before it did not answer.

    date: the server's clock (unix seconds), if it said so.
    """

    server: str
    status: int
    body: bytes
    date: float | None
    others: Mapping[str, str]

    def __str__(self) -> str:
        return "; ".join([self.server, *(f"not {s}: {why}" for s, why in self.others.items())])


class PrometheusApi:
    """urls: servers with the same data, the preferred one first. timeout: seconds for an answer,
    whoever gives it; shared out among the servers. retries: rounds after the first."""

    def __init__(
        self, urls: Sequence[str], access: Access, *, timeout: float, retries: int
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._access = access
        self._timeout = timeout
        self._retries = retries
        self._session: aiohttp.ClientSession | None = None

    async def query(self, query: str, time: float) -> Answer:
        """An instant query as of `time` (unix seconds). Raises UnansweredError."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._timeout
        form = {"query": query, "time": f"{time:.3f}"}
        troubles: dict[str, str] = {}
        waiting = list(self._urls)
        for turn in range(1 + self._retries):
            if turn:
                pause = PAUSE * 2.0 ** (turn - 1) * random.uniform(0.5, 1.5)
                if not waiting or clock() + pause >= end:
                    break
                await asyncio.sleep(pause)
            asked = tuple(waiting)
            for place, url in enumerate(asked):
                share = (end - clock()) / (len(asked) - place)
                try:
                    async with asyncio.timeout(share):
                        answer = await self._post(url, form, troubles)
                except TimeoutError:
                    troubles[url] = f"no answer within {max(share, 0.0):.2g} s"
                except (aiohttp.ClientError, OSError, AccessError) as error:
                    troubles[url] = f"cannot be read: {error}"
                    # The next request reads the certificates again: they may have been renewed.
                    await self.close()
                except _RefusalError as refusal:
                    troubles[url] = str(refusal)
                    waiting = [u for u in waiting if u != url or refusal.for_now]
                else:
                    self._begin_with(url)
                    return answer
        if len(self._urls) == 1:
            raise UnansweredError(troubles.popitem()[1])
        raise UnansweredError("; ".join(f"{url}: {why}" for url, why in troubles.items()))

    def pass_over(self) -> None:
        """What the server answered is of no use: begin with another the next time."""
        self._urls = [*self._urls[1:], self._urls[0]]

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _begin_with(self, url: str) -> None:
        place = self._urls.index(url)
        self._urls = [*self._urls[place:], *self._urls[:place]]

    async def _post(self, url: str, form: Mapping[str, str], troubles: Mapping[str, str]) -> Answer:
        tls = self._access.tls
        if self._session is None:
            context = await asyncio.to_thread(tls.context) if tls else True
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
        headers = await asyncio.to_thread(self._access.request_headers)
        async with self._session.post(
            f"{url}/api/v1/query",
            data=form,
            headers=headers,
            # Elsewhere the credentials have no business.
            allow_redirects=False,
            server_hostname=tls.server_name if tls else None,
        ) as response:
            status, body = response.status, await response.read()
            if status != 200 and status not in _ABOUT_THE_QUERY:
                raise _RefusalError(status, body)
            date = _seconds(response.headers.get("Date"))
            return Answer(url, status, body, date, {u: w for u, w in troubles.items() if u != url})


class _RefusalError(Exception):
    """for_now: the same request may fare better in a moment."""

    def __init__(self, status: int, body: bytes) -> None:
        self.for_now = status >= 500 or status in (408, 429)
        why = "and not JSON"
        with suppress(ValueError, KeyError, TypeError):
            answer = json.loads(body)
            why = f"{answer['errorType']}: {answer['error']}"
        if status in _REFUSED:
            why = "the credentials were refused; check bearer or basic"
        elif 300 <= status < 400:
            why = "it redirects; give the address that it redirects to"
        super().__init__(f"status {status}, {why}")


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
