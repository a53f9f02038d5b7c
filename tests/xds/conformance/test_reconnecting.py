"""A new stream, also to a new server, resends nothing that the client is known to have.

Sections are those of Envoy's xds_protocol.rst.
"""

from __future__ import annotations

from .conftest import Connect
from .driver import TIMEOUT, Site
from .variants import every_type, only_delta, only_sotw, with_wildcard, without_wildcard


@only_delta
@with_wildcard
async def test_a_wildcard_is_sent_what_it_lacks(
    site: Site, connect: Connect, type_url: str
) -> None:
    """ "Incremental xDS": initial_resource_versions."""
    site.serve(type_url, a=1, b=1, c=1)
    first = connect()
    await first.subscribe(type_url)
    known = (await first.accept(type_url)).versions
    await first.close()

    async with Site() as restarted:
        restarted.serve(type_url, c=1, b=1, a=1)
        same = connect(at=restarted)
        await same.subscribe(type_url, known=known)
        await same.quiet(type_url)

        restarted.serve(type_url, a=2, b=1, d=1)
        other = connect("other", at=restarted)
        await other.subscribe(type_url, known=known)
        told = await other.accept(type_url)
        assert told.versions == restarted.versions(type_url, "a", "d")
        assert told.removed == ("c",)
        await other.quiet(type_url)


@only_delta
@every_type
async def test_names_are_sent_what_they_lack(site: Site, connect: Connect, type_url: str) -> None:
    """The same; the client has to name again everything that it wants."""
    site.serve(type_url, a=1, b=1, c=1)
    known = site.versions(type_url, "a", "b", "c")
    same, other = connect("same"), connect("other")
    await same.subscribe(type_url, "a", "b", known=known)
    await same.quiet(type_url)

    site.serve(type_url, a=2, b=1, c=2)
    assert (await same.accept(type_url)).names == ("a",)
    await other.subscribe(type_url, "a", "b", "never", known=known)
    told = await other.accept(type_url)
    assert (told.names, told.removed) == (("a",), ("never",))
    await other.quiet(type_url)


@only_sotw
@with_wildcard
async def test_a_wildcard_at_the_servers_version_is_sent_nothing(
    site: Site, connect: Connect, type_url: str
) -> None:
    """ "ACK/NACK and resource type instance version": safe under a wildcard."""
    site.serve(type_url, a=1, b=1)
    first = connect()
    await first.subscribe(type_url)
    version = (await first.accept(type_url)).version
    await first.close()

    async with Site() as restarted:
        restarted.serve(type_url, b=1, a=1)
        client = connect(at=restarted)
        await client.subscribe(type_url, version=version)
        assert await restarted.server.wait_acked(type_url, version, TIMEOUT), "known to be in force"
        restarted.serve(type_url, a=1, b=2)
        told = await client.accept(type_url)
        assert told.versions == restarted.versions(type_url, "a", "b")
        await client.quiet(type_url)


@only_sotw
@with_wildcard
async def test_a_wildcard_at_another_version_is_sent_everything(
    site: Site, connect: Connect, type_url: str
) -> None:
    """The same section."""
    site.serve(type_url, a=1, b=1)
    client = connect()
    await client.subscribe(type_url, version="of another server")
    assert (await client.accept(type_url)).names == ("a", "b")
    await client.quiet(type_url)


@only_sotw
@every_type
async def test_names_are_sent_whatever_the_version(
    site: Site, connect: Connect, type_url: str
) -> None:
    """The same section: a name may be new to the client, so the version proves nothing."""
    site.serve(type_url, a=1, b=1)
    client = connect()
    await client.subscribe(type_url, "a", version=site.version(type_url))
    assert (await client.accept(type_url)).versions == site.versions(type_url, "a")
    await client.quiet(type_url)


@without_wildcard
async def test_a_nonce_of_the_last_stream_means_nothing(
    site: Site, connect: Connect, type_url: str
) -> None:
    """ "Basic Protocol Overview": nonces do not survive stream restarts."""
    site.serve(type_url, a=1)
    first = connect()
    await first.subscribe(type_url, "a")
    old = await first.receive(type_url)
    await first.close()

    second = connect()
    await second.subscribe(type_url, "a")
    told = await second.receive(type_url)
    site.serve(type_url, a=2)
    await second.ack(told)
    assert (await second.accept(type_url)).versions == site.versions(type_url, "a")
    assert old.version == told.version
    await second.quiet(type_url)
