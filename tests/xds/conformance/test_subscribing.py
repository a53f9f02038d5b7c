"""What a client asks for, it gets. Sections are those of Envoy's xds_protocol.rst."""

from __future__ import annotations

import pytest

from eigenmesh.xds.resource import CLUSTER, LISTENER

from .driver import Client, Site, Variant
from .variants import every_type, only_delta, with_wildcard, without_wildcard


@with_wildcard
@pytest.mark.parametrize("asked", [(), ("*",)], ids=["legacy", "star"])
async def test_a_wildcard_brings_everything_in_one_response(
    site: Site, client: Client, type_url: str, asked: tuple[str, ...]
) -> None:
    """ "How the client specifies what resources to return"."""
    site.serve(type_url, a=1, b=1, c=1)
    await client.subscribe(type_url, *asked)
    told = await client.accept(type_url)
    assert told.versions == site.versions(type_url, "a", "b", "c")
    assert told.version == site.version(type_url)
    await client.quiet(type_url)


@with_wildcard
async def test_a_wildcard_over_nothing_is_answered(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Resource warming": Envoy starts only when it has been told."""
    site.serve(type_url)
    await client.subscribe(type_url)
    assert (await client.accept(type_url)).names == ()
    await client.quiet(type_url)


@every_type
async def test_names_bring_these_resources_only(site: Site, client: Client, type_url: str) -> None:
    """ "How the client specifies what resources to return"."""
    site.serve(type_url, a=1, b=1, c=1, d=1)
    await client.subscribe(type_url, "b", "d")
    assert (await client.accept(type_url)).versions == site.versions(type_url, "b", "d")
    await client.quiet(type_url)


@every_type
async def test_one_more_name_brings_one_more_resource(
    site: Site, client: Client, type_url: str, variant: Variant
) -> None:
    """ "Requesting Multiple Resources on a Single Stream", "Four Variants"."""
    site.serve(type_url, a=1, b=1, c=1)
    await client.subscribe(type_url, "a")
    assert (await client.accept(type_url)).names == ("a",)
    await client.subscribe(type_url, "b")
    told = await client.accept(type_url)
    assert told.names == (("a", "b") if variant.whole(type_url) else ("b",))
    await client.quiet(type_url)


@without_wildcard
async def test_other_types_have_no_legacy_wildcard(
    site: Site, client: Client, type_url: str
) -> None:
    """The same section: the wildcard is for listeners and clusters."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url)
    await client.quiet(type_url)


@with_wildcard
async def test_a_star_beside_a_name_continues_the_legacy_wildcard(
    site: Site, client: Client, type_url: str
) -> None:
    """The section's examples, second line."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url)
    await client.accept(type_url)
    await client.subscribe(type_url, "*", "a")
    told = await client.accept(type_url)
    assert told.versions == site.versions(type_url, *told.names)
    assert "a" in told.names
    site.serve(type_url, a=1, b=2)
    told = await client.accept(type_url)
    assert told.versions.items() >= site.versions(type_url, "b").items()
    await client.quiet(type_url)


@with_wildcard
async def test_leaving_the_wildcard_keeps_the_names(
    site: Site, client: Client, type_url: str
) -> None:
    """The section's examples, third line."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "*", "a")
    assert (await client.accept(type_url)).names == ("a", "b")
    await client.unsubscribe(type_url, "*")
    await client.quiet(type_url)
    site.serve(type_url, a=1, b=2)
    await client.quiet(type_url)
    site.serve(type_url, a=2, b=2)
    assert (await client.accept(type_url)).versions == site.versions(type_url, "a")
    await client.quiet(type_url)


@with_wildcard
async def test_names_given_up_leave_nothing_and_no_wildcard(
    site: Site, client: Client, type_url: str
) -> None:
    """The section's examples, last line: it looks like the first request and is not."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a")
    await client.accept(type_url)
    await client.unsubscribe(type_url, "a")
    await client.quiet(type_url)
    site.serve(type_url, a=2, b=2)
    await client.quiet(type_url)


@with_wildcard
async def test_a_wildcard_can_be_taken_up_later(site: Site, client: Client, type_url: str) -> None:
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a")
    await client.accept(type_url)
    await client.subscribe(type_url, "*")
    told = await client.accept(type_url)
    assert told.versions.items() >= site.versions(type_url, "b").items()
    await client.quiet(type_url)


@every_type
async def test_a_name_that_springs_into_existence_is_sent(
    site: Site, client: Client, type_url: str, variant: Variant
) -> None:
    """ "Knowing When a Requested Resource Does Not Exist"."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "a", "later")
    assert (await client.accept(type_url)).names == ("a",)
    site.serve(type_url, a=1, later=1)
    told = await client.accept(type_url)
    assert told.names == (("a", "later") if variant.whole(type_url) else ("later",))
    await client.quiet(type_url)


@only_delta
@every_type
async def test_a_name_that_does_not_exist_is_in_removed_resources(
    site: Site, client: Client, type_url: str
) -> None:
    """The same section under "Incremental xDS"."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "a", "never")
    told = await client.accept(type_url)
    assert (told.names, told.removed) == (("a",), ("never",))
    await client.quiet(type_url)


@every_type
async def test_a_resource_asked_for_again_is_sent_again(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Subscribing to Resources": the client may have forgotten it."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a", "b")
    await client.accept(type_url)
    await client.ask_again(type_url, "b")
    told = await client.accept(type_url)
    assert told.versions.items() >= site.versions(type_url, "b").items()
    await client.quiet(type_url)


@only_delta
@with_wildcard
async def test_a_wildcard_asked_for_again_is_sent_again(
    site: Site, client: Client, type_url: str
) -> None:
    """The same section; what holds for a name holds for the star."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "*")
    await client.accept(type_url)
    await client.subscribe(type_url, "*")
    assert (await client.accept(type_url)).names == ("a", "b")
    await client.quiet(type_url)


@every_type
async def test_the_node_is_needed_in_the_first_request_only(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Basic Protocol Overview"; the driver never repeats it."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a")
    await client.accept(type_url)
    await client.subscribe(type_url, "b")
    await client.accept(type_url)
    await client.quiet(type_url)
    assert {n.node_id for n in site.server.nodes()} == {"client"}
    assert {e.node_id for e in site.events} == {"client"}


async def test_nothing_is_sent_before_there_is_content(site: Site, client: Client) -> None:
    """ "Deleting Resources": an empty response would remove what a returning client has."""
    await client.subscribe(CLUSTER)
    await site.heard("connect")
    site.serve(CLUSTER, a=1)
    assert (await client.accept(CLUSTER)).names == ("a",)
    await client.subscribe(LISTENER)
    assert (await client.accept(LISTENER)).names == ()
