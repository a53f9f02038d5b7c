"""Every scenario runs in the four variants, unless it says which apply."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from .driver import Client, Site, Variant
from .variants import ALL

Connect = Callable[..., Client]


@pytest.fixture(params=ALL, ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    chosen: Variant = request.param
    return chosen


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        yield site


@pytest.fixture
async def connect(site: Site, variant: Variant) -> AsyncIterator[Connect]:
    """Makes a client; `at` is another site than the test's own."""
    clients: list[Client] = []

    def make(node: str = "client", at: Site = site) -> Client:
        clients.append(Client(at.port, variant, node))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def client(connect: Connect) -> Client:
    return connect()
