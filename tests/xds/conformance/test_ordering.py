"""Several types beside each other. Sections are those of Envoy's xds_protocol.rst."""

from __future__ import annotations

from eigenmesh.xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME
from eigenmesh.xds.snapshot import Snapshot

from ..support import resource
from .driver import Client, Site
from .variants import only_aggregated, only_separate

TYPES = (ROUTE, LISTENER, ENDPOINT, CLUSTER)
"""Against the order in which they have to be sent."""


def mesh(*clusters: str) -> Snapshot:
    """One listener and one route to these EDS clusters."""
    needs = [(CLUSTER, name) for name in clusters]
    return Snapshot(
        [
            *(resource(CLUSTER, n, warms=[(ENDPOINT, n)]) for n in clusters),
            *(resource(ENDPOINT, n) for n in clusters),
            resource(LISTENER, "edge", clusters, needs=needs),
            resource(ROUTE, "edge", clusters, needs=needs),
        ]
    )


async def follow(site: Site, client: Client, *clusters: str) -> None:
    """An Envoy that has everything of this mesh."""
    site.publish(mesh(*clusters))
    for type_url in (CLUSTER, LISTENER):
        await client.subscribe(type_url)
        await client.accept(type_url)
    await client.subscribe(ENDPOINT, *clusters)
    await client.accept(ENDPOINT)
    await client.subscribe(ROUTE, "edge")
    await client.accept(ROUTE)
    await site.heard("ack", 4)


@only_aggregated
async def test_a_snapshot_is_sent_clusters_endpoints_listeners_routes(
    site: Site, client: Client
) -> None:
    """ "Eventual consistency considerations"."""
    for content in (1, 2):
        site.publish(Snapshot(resource(t, "x", content) for t in TYPES))
        if content == 1:
            for type_url in TYPES:
                await client.subscribe(type_url, "x")
                await client.accept(type_url)
            await site.heard("ack", len(TYPES))
    order = [(await client.accept()).type_url for _ in TYPES]
    assert order == [CLUSTER, ENDPOINT, LISTENER, ROUTE]


@only_aggregated
async def test_the_new_is_made_before_the_old_is_broken(site: Site, client: Client) -> None:
    """The same section: X, then X and Y, then the route to Y, and only then Y alone."""
    await follow(site, client, "x")
    site.publish(mesh("y"))
    told = await client.receive(CLUSTER)
    assert "y" in told.names
    assert "x" not in told.removed
    assert client.variant.delta or "x" in told.names
    # Envoy asks for the new cluster's endpoints, and answers once it is warm.
    await client.subscribe(ENDPOINT, "y")
    assert (await client.accept(ENDPOINT)).names == ("y",)
    await client.ack(told)
    assert (await client.accept(LISTENER)).names == ("edge",)
    assert (await client.accept(ROUTE)).names == ("edge",)
    told = await client.accept(CLUSTER)
    assert told.removed == ("x",) if client.variant.delta else told.names == ("y",)


@only_aggregated
async def test_routes_do_not_follow_a_cluster_that_was_refused(site: Site, client: Client) -> None:
    """The same section: the route would lead nowhere. The old one stays in force."""
    await follow(site, client, "x")
    site.publish(mesh("x", "y"))
    await client.nack(await client.receive(CLUSTER), "y is bad")
    await site.heard("nack")
    await client.quiet(ROUTE)
    site.publish(mesh("x", "z"))
    assert "z" in (await client.accept(CLUSTER)).names
    order = [(await client.accept()).type_url for _ in range(2)]
    assert order == [LISTENER, ROUTE]


@only_aggregated
async def test_a_changed_cluster_gets_its_endpoints_again(site: Site, client: Client) -> None:
    """ "Resource warming": Envoy waits for them, although they did not change."""
    await follow(site, client, "x", "y")
    changed = resource(CLUSTER, "x", "changed", warms=[(ENDPOINT, "x")])
    site.publish(site.snapshot.replace([changed]))
    assert "x" in (await client.accept(CLUSTER)).names
    assert (await client.accept(ENDPOINT)).names == ("x",)


async def test_types_have_versions_and_answers_of_their_own(site: Site, client: Client) -> None:
    """ "ACK/NACK and resource type instance version", "Aggregated Discovery Service"."""
    types = (CLUSTER, ROUTE, RUNTIME)
    for type_url in types:
        site.serve(type_url, a=1, b=1)
        await client.subscribe(type_url, "a")
        assert (await client.accept(type_url)).version == site.version(type_url)
    before = {t: site.version(t) for t in types}
    # One type is refused, one is not answered; neither keeps the third from its updates.
    site.serve(CLUSTER, a=2, b=1)
    await client.nack(await client.receive(CLUSTER))
    site.serve(ROUTE, a=2, b=1)
    await client.receive(ROUTE)
    site.serve(RUNTIME, a=2, b=1)
    told = await client.accept(RUNTIME)
    assert told.versions == site.versions(RUNTIME, "a")
    assert told.version == site.version(RUNTIME) != before[RUNTIME]
    await client.quiet(RUNTIME)


@only_separate
async def test_streams_are_independent(site: Site, client: Client) -> None:
    """ "Four Variants": what is separate is consistent in the end only, and waits for nothing."""
    site.publish(mesh("x"))
    await client.subscribe(ROUTE, "edge")
    assert (await client.accept(ROUTE)).names == ("edge",)
    await client.subscribe(CLUSTER)
    told = await client.receive(CLUSTER)
    site.publish(mesh("x", "y"))
    assert (await client.accept(ROUTE)).names == ("edge",), "the unanswered cluster is elsewhere"
    await client.nack(told)
    assert "y" in (await client.accept(CLUSTER)).names
    await client.quiet(ROUTE)
