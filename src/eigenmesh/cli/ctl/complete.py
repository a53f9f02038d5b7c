"""What the shell is offered after TAB: names from the Eigenmesh that runs, if one answers at once.

Nothing is said of what goes wrong: the command itself says it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import typer

from eigenmesh.cli.ctl.session import Session

if TYPE_CHECKING:
    from eigenmesh.api.client import MeshClient
    from eigenmesh.v1 import mesh_pb2 as pb

WITHIN = 1.0
"""Seconds that a shell waits for an answer."""
_NEWEST = 20

Offers = list[tuple[str, str]]
"""What is typed, and what it is."""


def routes(ctx: typer.Context, incomplete: str) -> Offers:
    async def ask(client: MeshClient) -> Offers:
        return [(one.id, _split(one)) async for one in client.list_routes()]

    return _offers(ctx, incomplete, ask)


def clusters(ctx: typer.Context, incomplete: str) -> Offers:
    async def ask(client: MeshClient) -> Offers:
        return [
            (one.id, f"{one.state.load:.0f} requests/s") async for one in client.list_clusters()
        ]

    return _offers(ctx, incomplete, ask)


def demands(ctx: typer.Context, incomplete: str) -> Offers:
    """Those of now, to be changed."""

    async def ask(client: MeshClient) -> Offers:
        return [
            (f"{one.id}={one.demand:.0f}", "as now")
            async for one in client.list_routes()
            if one.HasField("demand")
        ]

    return _offers(ctx, incomplete, ask)


def capacities(ctx: typer.Context, incomplete: str) -> Offers:
    async def ask(client: MeshClient) -> Offers:
        return [(f"{one.id}=0.5", "half of it") async for one in client.list_clusters()]

    return _offers(ctx, incomplete, ask)


def weights(ctx: typer.Context, incomplete: str) -> Offers:
    """Those of the route that was named, as they are now."""

    async def ask(client: MeshClient) -> Offers:
        route = await client.get_route(ctx.params["route"])
        return [(f"{name}={weight:.3f}", "as now") for name, weight in route.weights.items()]

    return _offers(ctx, incomplete, ask)


def canaries(ctx: typer.Context, incomplete: str) -> Offers:
    async def ask(client: MeshClient) -> Offers:
        route = await client.get_route(ctx.params["route"])
        return [(name, f"at most {most:.1%}") for name, most in route.canaries.items()]

    return _offers(ctx, incomplete, ask)


def decisions(ctx: typer.Context, incomplete: str) -> Offers:
    """The newest."""

    async def ask(client: MeshClient) -> Offers:
        listed = client.list_decisions(most=_NEWEST)
        return [(str(one.number), one.why) async for one in listed]

    return _offers(ctx, incomplete, ask)


def pending(ctx: typer.Context, incomplete: str) -> Offers:
    """The one that waits for a yes."""

    async def ask(client: MeshClient) -> Offers:
        decision = await client.get_decision("pending")
        return [(str(decision.number), decision.why)]

    return _offers(ctx, incomplete, ask)


def _split(route: pb.Route) -> str:
    return ", ".join(f"{name} {weight:.0%}" for name, weight in sorted(route.weights.items()))


def _offers(
    ctx: typer.Context, incomplete: str, ask: Callable[[MeshClient], Awaitable[Offers]]
) -> Offers:
    given: dict[str, Any] = {
        field.name: ctx.params.get(field.name) or field.default for field in fields(Session)
    }

    async def run() -> Offers:
        async with Session(**{**given, "timeout": WITHIN}).client() as client:
            return await ask(client)

    found: Offers = []
    with suppress(Exception):
        found = asyncio.run(run())
    # What is not printable would be typed as something else.
    return [one for one in found if one[0].startswith(incomplete) and one[0].isprintable()]
