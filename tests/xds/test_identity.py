"""Who may say that it is which node."""

from __future__ import annotations

import pytest

from eigenmesh.xds.identity import Identity
from eigenmesh.xds.node import Node

SPIFFE = "spiffe://mesh.example/{cluster}/{id}"


@pytest.mark.parametrize(
    ("template", "node", "names"),
    [
        ("{id}", Node("envoy-1"), ["DNS:envoy-1"]),
        ("{id}", Node("a.mesh.example"), ["DNS:other", "DNS:a.mesh.example"]),
        ("{id}", Node("a.mesh.example"), ["DNS:*.mesh.example"]),
        ("{id}.mesh.example", Node("a"), ["DNS:*.mesh.example"]),
        (SPIFFE, Node("envoy-1", "edge"), ["URI:spiffe://mesh.example/edge/envoy-1"]),
        ("{id}", Node("spiffe://mesh.example/a"), ["URI:spiffe://mesh.example/a"]),
        ("fleet.mesh.example", Node("any"), ["DNS:fleet.mesh.example"]),
    ],
)
def test_a_node_that_its_certificate_names_is_let_in(
    template: str, node: Node, names: list[str]
) -> None:
    assert Identity(template).refusal(node, names) is None


@pytest.mark.parametrize(
    ("template", "node", "names"),
    [
        ("{id}", Node("envoy-1"), ["DNS:envoy-2"]),
        ("{id}", Node("envoy-1"), []),
        ("{id}", Node("envoy-1"), ["DNS:ENVOY-1"]),
        ("{id}", Node("envoy-1"), ["IP:envoy-1", "envoy-1"]),
        # A wildcard stands for one label, and for a label only.
        ("{id}", Node("a.b.mesh.example"), ["DNS:*.mesh.example"]),
        ("{id}", Node("mesh.example"), ["DNS:*.mesh.example"]),
        ("{id}", Node(".mesh.example"), ["DNS:*.mesh.example"]),
        ("{id}", Node("a/b.mesh.example"), ["DNS:*.mesh.example"]),
        ("{id}", Node("a.mesh.example"), ["URI:*.mesh.example"]),
        # No name, no node: it must not fall back to what is left of the template.
        ("{id}", Node(""), ["DNS:"]),
        (SPIFFE, Node("envoy-1", ""), ["URI:spiffe://mesh.example//envoy-1"]),
        # The same text, cut in another place.
        (SPIFFE, Node("b/c", "a"), ["URI:spiffe://mesh.example/a/b/c"]),
        (SPIFFE, Node("c", "a/b"), ["URI:spiffe://mesh.example/a/b/c"]),
        # What a client sends is no template.
        ("{id}", Node("{cluster}", "x"), ["DNS:x"]),
    ],
)
def test_any_other_is_refused(template: str, node: Node, names: list[str]) -> None:
    assert Identity(template).refusal(node, names)


def test_the_refusal_names_node_wanted_and_presented_names() -> None:
    refusal = Identity(SPIFFE).refusal(Node("envoy-1", "edge"), ["DNS:a", "URI:spiffe://b"])
    assert refusal == (
        "node 'envoy-1' of cluster 'edge' needs a certificate for "
        "spiffe://mesh.example/edge/envoy-1; its own is for: DNS:a, URI:spiffe://b"
    )
    assert "is for: none" in (Identity("{id}").refusal(Node("a"), []) or "")


def test_a_refusal_stays_short_whatever_the_client_sends() -> None:
    long = "x" * 100_000
    assert len(Identity("{id}").refusal(Node(long, long), [f"DNS:{long}y"]) or "") < 2_500


@pytest.mark.parametrize(
    "template", ["", "{name}", "{}", "{id!r}", "{id", "id}", "{{id}}", "{cluster}{id}"]
)
def test_a_template_that_says_nothing_sure_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"\{id\}"):
        Identity(template)
