"""What a client gives up, it is told of no more. Sections are those of Envoy's xds_protocol.rst."""

from __future__ import annotations

from .driver import Client, Site
from .variants import every_type, only_delta, with_wildcard


@every_type
async def test_what_is_given_up_is_updated_no_more(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Unsubscribing From Resources"."""
    site.serve(type_url, a=1, b=1, c=1)
    await client.subscribe(type_url, "a", "b", "c")
    await client.accept(type_url)
    await client.unsubscribe(type_url, "b", "c")
    await client.quiet(type_url)
    site.serve(type_url, a=1, b=2, c=2)
    await client.quiet(type_url)
    site.serve(type_url, a=2, b=3, c=2)
    assert (await client.accept(type_url)).versions == site.versions(type_url, "a")
    await client.quiet(type_url)


@every_type
async def test_who_gives_up_everything_hears_nothing(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Unsubscribing From Resources"."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a", "b")
    await client.accept(type_url)
    await client.unsubscribe(type_url, "a", "b")
    await client.quiet(type_url)
    site.serve(type_url, a=2, b=2, c=2)
    await client.quiet(type_url)


@every_type
async def test_what_comes_back_is_sent_again_unchanged(
    site: Site, client: Client, type_url: str
) -> None:
    """ "How the client specifies what resources to return": newly requested is resent."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a", "b")
    await client.accept(type_url)
    await client.unsubscribe(type_url, "b")
    await client.quiet(type_url)
    await client.subscribe(type_url, "b")
    told = await client.accept(type_url)
    assert told.versions.items() >= site.versions(type_url, "b").items()
    await client.quiet(type_url)


@every_type
async def test_a_phantom_is_given_up_without_a_word(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Unsubscribing from Resources" under "Incremental xDS": superfluous names."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "a")
    await client.accept(type_url)
    await client.unsubscribe(type_url, "phantom")
    await client.quiet(type_url)
    site.serve(type_url, a=2)
    assert (await client.accept(type_url)).names == ("a",)


@only_delta
@with_wildcard
async def test_a_name_given_up_under_a_wildcard_is_answered(
    site: Site, client: Client, type_url: str
) -> None:
    """The same section, its exception: the client cannot know whether the wildcard covers it."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "*", "a", "never")
    await client.accept(type_url)
    await client.unsubscribe(type_url, "a", "never")
    told = await client.accept(type_url)
    assert (told.names, told.removed) == (("a",), ("never",))
    site.serve(type_url, a=2)
    assert (await client.accept(type_url)).names == ("a",), "the wildcard covers it still"
    await client.quiet(type_url)


@with_wildcard
async def test_a_wildcard_given_up_leaves_nothing(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Unsubscribing From Resources", the note on wildcards."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "*")
    await client.accept(type_url)
    await client.unsubscribe(type_url, "*")
    await client.quiet(type_url)
    site.serve(type_url, a=2)
    await client.quiet(type_url)
