"""Which group a node is of."""

from __future__ import annotations

import pytest
from envoy.config.core.v3.base_pb2 import Node as NodeMessage

from eigenmesh.xds.node import Grouping, Node, NodeMatch


def node() -> Node:
    message = NodeMessage(id="edge-7", cluster="edge")
    message.locality.region = "eu"
    message.locality.zone = "eu-1"
    message.metadata.update({"canary": True, "labels": {"app": "shop"}, "build": 12, "a.b": "c"})
    return Node.of(message)


@pytest.mark.parametrize(
    "match",
    [
        NodeMatch(),
        NodeMatch(id="edge-7"),
        NodeMatch(id="edge-*", cluster="edge", region="eu", zone="eu-?"),
        NodeMatch(metadata={"canary": "true", "labels.app": "sh*", "build": "12", "a.b": "c"}),
    ],
)
def test_fits(match: NodeMatch) -> None:
    assert match.fits(node())


@pytest.mark.parametrize(
    "match",
    [
        NodeMatch(id="edge-1"),
        NodeMatch(id="EDGE-7"),
        NodeMatch(cluster="ed"),
        NodeMatch(sub_zone="a"),
        NodeMatch(metadata={"canary": "false"}),
        NodeMatch(metadata={"labels.none": "?*"}),
        NodeMatch(metadata={"labels.app.deeper": "?*"}),
        NodeMatch(id="edge-*", region="us"),
    ],
)
def test_does_not_fit(match: NodeMatch) -> None:
    assert not match.fits(node())


def test_the_first_group_that_fits_wins_and_strangers_are_as_configured() -> None:
    groups = (("first", NodeMatch(cluster="edge")), ("second", NodeMatch(id="edge-*")))
    assert Grouping(groups).of(node()) == "first"
    assert Grouping(groups[1:]).of(node()) == "second"
    stranger = Node(id="x", cluster="y")
    assert Grouping(groups).of(stranger) == "default"
    refusing = Grouping(groups, strangers=None)
    assert refusing.of(stranger) is None
    assert "node 'x' of cluster 'y' fits no group (first, second)" in refusing.refusal(stranger)
