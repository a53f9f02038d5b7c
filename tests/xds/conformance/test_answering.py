"""ACK, NACK and nonces. Sections are those of Envoy's xds_protocol.rst."""

from __future__ import annotations

from eigenmesh.xds.resource import CLUSTER
from eigenmesh.xds.status import TypeStatus

from ..support import ask_delta, ask_sotw
from .conftest import Connect
from .driver import TIMEOUT, Client, Site, Variant
from .variants import every_type, only_delta, only_sotw, without_wildcard


def status(site: Site, type_url: str, node: str = "client") -> TypeStatus:
    """What the server knows of a client's type."""
    [found] = [
        t
        for n in site.server.nodes()
        if n.node_id == node
        for t in n.types
        if t.type_url == type_url
    ]
    return found


@every_type
async def test_an_ack_is_met_with_silence(site: Site, client: Client, type_url: str) -> None:
    """ "When to send an update": an answer is no reason to send the same again."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "a")
    told = await client.accept(type_url)
    assert await site.server.wait_acked(type_url, told.version, TIMEOUT)
    await client.quiet(type_url)


@every_type
async def test_a_refused_response_is_not_sent_again_until_its_content_changes(
    site: Site, client: Client, type_url: str, variant: Variant
) -> None:
    """ "ACK and NACK semantics summary", "When to send an update"."""
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "a")
    await client.accept(type_url)
    site.serve(type_url, a="bad")
    await client.nack(await client.receive(type_url), "a is bad")
    await site.heard("nack")
    assert status(site, type_url).nack == "a is bad"
    if not variant.whole(type_url):
        # The proof names one more resource, with which a whole response has to bring them all.
        await client.quiet(type_url)
    site.serve(type_url, a=2)
    assert (await client.accept(type_url)).versions == site.versions(type_url, "a")
    await client.quiet(type_url)
    assert status(site, type_url).nack == ""
    assert [e.kind for e in site.events].count("nack") == 1


@every_type
async def test_a_refusal_is_told_by_error_detail_alone(
    site: Site, client: Client, type_url: str, variant: Variant
) -> None:
    """ "NACK": not by the version, which a client that asks for more repeats."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a")
    await client.accept(type_url)
    site.serve(type_url, a=2, b=1)
    told = await client.receive(type_url)
    if variant.delta:
        await client.send(ask_delta(type_url, "b", nonce=told.nonce))
    else:
        await client.send(ask_sotw(type_url, "a", "b", nonce=told.nonce, version="older"))
    assert "b" in (await client.accept(type_url)).names
    assert "nack" not in {e.kind for e in site.events}


@without_wildcard
async def test_a_refused_resource_does_not_hold_up_the_others(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Grouping Resources into Responses": each can be in a response of its own."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a", "b")
    await client.accept(type_url)
    site.serve(type_url, a="bad", b=1)
    await client.nack(await client.receive(type_url))
    site.serve(type_url, a="bad", b=2)
    assert (await client.accept(type_url)).versions == site.versions(type_url, "b")
    await client.quiet(type_url)


@every_type
async def test_a_change_of_mind_needs_no_answer_to_carry_it(
    site: Site, client: Client, type_url: str
) -> None:
    """ "Resource updates", "Incremental xDS": spontaneous requests, also before an answer."""
    site.serve(type_url, a=1, b=1, c=1)
    await client.subscribe(type_url, "a")
    first = await client.receive(type_url)
    await client.subscribe(type_url, "b")
    await client.ack(first)
    assert "b" in (await client.accept(type_url)).names
    await client.subscribe(type_url, "c")
    assert "c" in (await client.accept(type_url)).names
    await client.quiet(type_url)


@only_sotw
@every_type
async def test_a_stale_nonce_is_met_with_silence(site: Site, client: Client, type_url: str) -> None:
    """ "Resource updates": the request that answers the newer response will name everything."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a")
    stale = (await client.accept(type_url)).nonce
    site.serve(type_url, a=2, b=1)
    newer = await client.receive(type_url)
    await client.send(ask_sotw(type_url, "a", "b", nonce=stale))
    await client.ack(newer)
    await client.quiet(type_url)
    await client.send(ask_sotw(type_url, "a", "b", nonce=stale))
    await client.quiet(type_url)


@only_delta
@every_type
async def test_a_stale_nonce_still_subscribes(site: Site, client: Client, type_url: str) -> None:
    """ "Incremental xDS": a nonce must not be used to reject a request."""
    site.serve(type_url, a=1, b=1)
    await client.subscribe(type_url, "a")
    stale = (await client.accept(type_url)).nonce
    site.serve(type_url, a=2, b=1)
    await client.accept(type_url)
    await client.send(ask_delta(type_url, "b", nonce=stale, error="of long ago"))
    assert (await client.accept(type_url)).names == ("b",)
    await client.send(ask_delta(type_url, unsubscribe=["b"], nonce=stale))
    await client.quiet(type_url)
    site.serve(type_url, a=2, b=2)
    await client.quiet(type_url)
    assert "nack" not in {e.kind for e in site.events}


@every_type
async def test_only_its_own_nonce_answers_a_response(
    site: Site, client: Client, type_url: str, variant: Variant
) -> None:
    """ "ACK and NACK semantics summary": the nonce tells which response is answered."""
    ask = ask_delta if variant.delta else ask_sotw
    site.serve(type_url, a=1)
    await client.subscribe(type_url, "a")
    told = await client.receive(type_url)
    for nonce in ("made up", f"{told.nonce}0"):
        await client.send(ask(type_url, *(() if variant.delta else "a"), nonce=nonce, error="no"))
    await client.ack(told)
    site.serve(type_url, a=2)
    assert (await client.accept(type_url)).versions == site.versions(type_url, "a")
    await client.quiet(type_url)
    assert "nack" not in {e.kind for e in site.events}


async def test_one_clients_state_is_not_anothers(site: Site, connect: Connect) -> None:
    """ "Basic Protocol Overview": a nonce is valid on its own stream only."""
    one, other = connect("one"), connect("other")
    site.serve(CLUSTER, a=1, b=1)
    for client in (one, other):
        await client.subscribe(CLUSTER, "a")
        await client.accept(CLUSTER)
    site.serve(CLUSTER, a=2, b=1)
    refused, taken = await one.receive(CLUSTER), await other.receive(CLUSTER)
    await one.nack(refused, "not for me")
    await other.ack(taken)
    await other.subscribe(CLUSTER, "b")
    assert "b" in (await other.accept(CLUSTER)).names
    await other.quiet(CLUSTER)
    assert status(site, CLUSTER, "one").nack == "not for me"
    assert status(site, CLUSTER, "other").nack == ""
    assert status(site, CLUSTER, "one").names == ("a",)
    site.serve(CLUSTER, a=3, b=1)
    assert (await one.accept(CLUSTER)).versions == site.versions(CLUSTER, "a")
    await one.quiet(CLUSTER)
