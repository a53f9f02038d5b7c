"""Groups of nodes: one mesh, several configurations."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from eigenmesh.control.groups import part_of
from eigenmesh.control.settings import Settings, SettingsError, parse_settings
from eigenmesh.mesh import BreakerLimits, Plan
from eigenmesh.xds.node import Node

from .test_settings import cluster, document


def own(*clusters: str, route: str = "shop", **more: Any) -> dict[str, Any]:
    """A configuration with one weighted route over these clusters."""
    split = {"clusters": [{"name": c, "weight": 1} for c in clusters]}
    one = {"name": route, "match": {"prefix": "/"}, "route": {"weighted_clusters": split}}
    host = {"name": "v", "domains": ["*"], "routes": [one | more]}
    return {
        "routes": [{"name": "inner", "virtual_hosts": [host]}],
        "clusters": [cluster(c) for c in clusters],
    }


def parse(*groups: dict[str, Any], **more: Any) -> Settings:
    return parse_settings(yaml.safe_dump(document() | {"groups": list(groups)} | more), "e.yaml")


def group(name: str, envoy: dict[str, Any] | None = None, **match: Any) -> dict[str, Any]:
    return {"name": name, "match": match} | ({"envoy": envoy} if envoy else {})


def test_routes_of_all_groups_are_steered_over_clusters_that_they_share() -> None:
    settings = parse(group("inner", own("b", "c"), cluster="inner"))
    assert {r.name: r.clusters for r in settings.topology.routes} == {
        "shop": ("a", "b"),
        "inner:shop": ("b", "c"),
    }
    assert settings.topology.cluster_names == ("a", "b", "c")
    assert settings.groups.original_plan().weights["inner:shop"] == {"b": 0.5, "c": 0.5}
    stats = settings.groups.route_stats()
    assert len(set(stats.values())) == 2, "their requests are counted apart"
    assert settings.groups.grouping.of(Node(cluster="inner")) == "inner"
    assert settings.groups.grouping.of(Node(cluster="other")) == "default"


def test_a_group_is_served_its_part_of_the_plan() -> None:
    settings = parse(group("inner", own("b", "c"), cluster="inner"))
    limits = {c: BreakerLimits.around(20) for c in "abc"}
    weights = {"shop": {"a": 0.9, "b": 0.1}, "inner:shop": {"b": 0.2, "c": 0.8}}
    part = part_of(Plan(weights, limits), settings.groups.operators["inner"])
    assert part.weights == {"inner:shop": {"b": 0.2, "c": 0.8}}
    assert part.limits.keys() == {"b", "c"}


def test_a_group_without_a_configuration_shares_the_documents() -> None:
    settings = parse(group("edge", id="edge-*"), unknown_nodes="refuse")
    [(operator, groups)] = settings.groups.distinct
    assert operator is settings.operator
    assert groups == ("default", "edge")
    assert settings.groups.grouping.of(Node(id="x")) is None


def breaking(limit: int) -> dict[str, Any]:
    thresholds = {"thresholds": [{"max_requests": limit}]}
    envoy = own("b", "c")
    envoy["clusters"][0]["circuit_breakers"] = thresholds
    return envoy


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([group("default", own("b", "c"))], "groups[0].name: 'default'"),
        ([group("x", own("b", "c"), id="1"), group("x", id="2")], "groups[1].name: 'x'"),
        ([group("x", own("b", "c"), node="1")], "groups[0].match.node: unknown key 'node'"),
        ([group("x", breaking(7), id="1")], "cluster b: circuit_breakers in x"),
        ([group("x", id="1") | {"steer": ["shop"]}], "groups[0].steer"),
        ([group("x", own("b", "c") | {"clusters": [cluster("b")]})], "groups[0].envoy.routes"),
        (
            [
                group("x", own("b", "c", stat_prefix="same")),
                group("z", own("b", "c", stat_prefix="same")),
            ],
            "x:shop is counted under the same stat_prefix",
        ),
    ],
)
def test_a_mistake_names_the_group(groups: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(*groups)
    [line] = caught.value.lines
    assert words in line
