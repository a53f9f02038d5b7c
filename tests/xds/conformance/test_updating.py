"""Changes go to whom they concern. Sections are those of Envoy's xds_protocol.rst."""

from __future__ import annotations

from ..support import Told
from .conftest import Connect
from .driver import Client, Site, Variant
from .variants import every_type, only_delta, only_sotw, with_wildcard, without_wildcard


@every_type
async def test_a_change_is_told_to_its_subscribers(
    site: Site, connect: Connect, type_url: str, variant: Variant
) -> None:
    """ "When to send an update", "Grouping Resources into Responses"."""
    one, other = connect("one"), connect("other")
    site.serve(type_url, a=1, b=1, c=1)
    await one.subscribe(type_url, "a", "b")
    await one.accept(type_url)
    await other.subscribe(type_url, "c")
    await other.accept(type_url)
    site.serve(type_url, a=2, b=1, c=1)
    told = await one.accept(type_url)
    named = ("a", "b") if variant.whole(type_url) else ("a",)
    assert told.versions == site.versions(type_url, *named)
    assert told.version == site.version(type_url)
    await one.quiet(type_url)
    await other.quiet(type_url)


@with_wildcard
async def test_a_change_or_a_new_resource_is_told_to_a_wildcard(
    site: Site, client: Client, type_url: str, variant: Variant
) -> None:
    """ "Grouping Resources into Responses"."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url)
    await client.accept(type_url)
    site.serve(type_url, a=2, b=1)
    told = await client.accept(type_url)
    assert told.names == (("a", "b") if variant.whole(type_url) else ("a",))
    site.serve(type_url, a=2, b=1, c=1)
    told = await client.accept(type_url)
    assert told.names == (("a", "b", "c") if variant.whole(type_url) else ("c",))
    await client.quiet(type_url)


@every_type
async def test_equal_content_is_no_update(site: Site, client: Client, type_url: str) -> None:
    """ "When to send an update"."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "a")
    await client.accept(type_url)
    site.serve(type_url, a=1)
    await client.quiet(type_url)


@every_type
async def test_every_response_has_a_nonce_of_its_own_and_the_types_version(
    site: Site, client: Client, type_url: str
) -> None:
    """ "ACK/NACK and resource type instance version"."""
    told: list[Told] = []
    for content in (1, 2, 1):
        site.serve(type_url, a=content)
        if not told:
            await client.subscribe(type_url, "a")
        told.append(await client.accept(type_url))
    assert len({t.nonce for t in told}) == 3
    first, second, third = (t.version for t in told)
    assert first == third != second, "a version is of the content and not of the stream"


@every_type
async def test_many_changes_while_an_answer_is_awaited_are_one(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Resource updates": an update is due when there is a new version, and it is the newest."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "a")
    first = await client.receive(type_url)
    for content in (2, 3, 4):
        site.serve(type_url, a=content)
    await client.ack(first)
    assert (await client.accept(type_url)).versions == site.versions(type_url, "a")
    await client.quiet(type_url)


@only_sotw
@with_wildcard
async def test_what_a_whole_response_leaves_out_is_deleted(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Deleting Resources"; an empty response deletes the last one."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url)
    await client.accept(type_url)
    site.serve(type_url, a=1)
    assert (await client.accept(type_url)).names == ("a",)
    site.serve(type_url)
    assert (await client.accept(type_url)).names == ()
    site.serve(type_url, b=1)
    assert (await client.accept(type_url)).names == ("b",)
    await client.quiet(type_url)


@only_sotw
@without_wildcard
async def test_of_other_types_a_deletion_cannot_be_told(
    site: Site, client: Client, type_url: str
) -> None:
    """The same section; once it exists again it is told."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a", "b")
    await client.accept(type_url)
    site.serve(type_url, a=1)
    await client.quiet(type_url)
    site.serve(type_url, a=1, b=1)
    assert (await client.accept(type_url)).names == ("b",)
    await client.quiet(type_url)


@only_delta
@every_type
async def test_a_deletion_is_told_in_removed_resources(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Deleting Resources"; once it exists again it is told."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a", "b")
    await client.accept(type_url)
    site.serve(type_url, a=1)
    told = await client.accept(type_url)
    assert (told.names, told.removed) == ((), ("b",))
    site.serve(type_url, a=1, b=2)
    told = await client.accept(type_url)
    assert (told.names, told.removed) == (("b",), ())
    await client.quiet(type_url)


@only_delta
@with_wildcard
async def test_a_deletion_is_told_to_a_wildcard(site: Site, client: Client, type_url: str) -> None:
    """ "Deleting Resources"."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url)
    await client.accept(type_url)
    site.serve(type_url, a=1)
    told = await client.accept(type_url)
    assert (told.names, told.removed) == ((), ("b",))
    await client.quiet(type_url)
