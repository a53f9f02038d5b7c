"""Overlay mode: which routes can be steered as they are, and the one layer that is served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenmesh.mesh import BreakerLimits, MeshError, Plan, RetryBudget
from eigenmesh.xds.bootstrap import OVERLAY_NOTES, bootstrap, bootstrap_yaml
from eigenmesh.xds.operator import OperatorConfig, OperatorError, parse_operator
from eigenmesh.xds.overlay import OverlayTranslator, weight_keys
from eigenmesh.xds.resource import RUNTIME
from eigenmesh.xds.snapshot import Snapshot

from .test_operator import cluster, listener, load, table, weighted


def steerable(name: str = "shop", **weights: int) -> dict[str, Any]:
    """A weighted route with all that overlay mode needs."""
    route = {**weighted(**weights or {"a": 3, "b": 1}), "name": name, "stat_prefix": name}
    route["route"]["weighted_clusters"]["runtime_key_prefix"] = f"weights.{name}"
    return route


def document(*routes: dict[str, Any]) -> dict[str, Any]:
    limited = {"thresholds": [{"max_requests": 200}]}
    clusters = [cluster("a", circuit_breakers=limited), cluster("b")]
    return {"routes": [table(*routes or [steerable()])], "clusters": clusters}


def parse(given: Mapping[str, Any], **options: Any) -> OperatorConfig:
    return parse_operator(given, overlay=True, **options)


def without(field: str) -> dict[str, Any]:
    route = steerable()
    for owner in (route, route["route"]["weighted_clusters"]):
        owner.pop(field, None)
    return route


def test_what_is_steered_is_taken_as_it_is() -> None:
    config = parse(document())
    assert (config.fixed, config.tables, config.left_alone) == ((), {}, ())
    [route] = config.steered
    assert (route.name, route.stat_prefix) == ("shop", "shop")
    assert route.runtime_key("a") == "weights.shop.a"
    assert config.original_plan().weights == {"shop": {"a": 0.75, "b": 0.25}}
    assert config.original_plan().limits == {"a": BreakerLimits(200, 1024, 1024, 3)}


def test_a_route_over_one_cluster_needs_a_stat_prefix_and_no_runtime_key() -> None:
    action = {"match": {"prefix": "/"}, "route": {"cluster": "a"}, "name": "direct"}
    config = parse(document({**action, "stat_prefix": "direct"}), steer=["direct"])
    plan = Plan({"direct": {"a": 1.0}}, {"a": BreakerLimits.around(20)})
    [layer] = OverlayTranslator(config).snapshot(plan).of(RUNTIME).resources.values()
    found = Runtime.FromString(AnyMessage.FromString(layer.packed).value).layer
    assert found["circuit_breakers.a.default.max_requests"] == 20
    assert all(key.startswith("circuit_breakers.") for key in found.fields)
    with pytest.raises(OperatorError, match="without a stat_prefix"):
        parse(document(action), steer=["direct"])


AT = "envoy.routes[0].virtual_hosts[0].routes[0]"


@pytest.mark.parametrize(
    ("routes", "reasons"),
    [
        pytest.param(
            [without("runtime_key_prefix")],
            [f"cannot be moved: add `runtime_key_prefix: shop_2` to {AT}.route.weighted_clusters"],
            id="no runtime_key_prefix",
        ),
        pytest.param(
            [without("stat_prefix")],
            [f"its requests cannot be counted: add `stat_prefix: shop` to {AT}"],
            id="no stat_prefix",
        ),
        pytest.param(
            [weighted(a=1, b=1)],
            ["add `runtime_key_prefix: edge_v_0`", "add `stat_prefix: edge_v_0`"],
            id="neither",
        ),
        pytest.param(
            [steerable(a=1, z=1)],
            ["its clusters z are not known here: give them under clusters"],
            id="clusters of the other control plane",
        ),
    ],
)
def test_what_cannot_be_steered_as_it_is_says_what_to_add(
    routes: list[dict[str, Any]], reasons: list[str]
) -> None:
    config = parse(document(*routes))
    assert config.steered == ()
    [line] = config.left_alone
    for reason in reasons:
        assert reason in line
    with pytest.raises(OperatorError, match="cannot be steered: "):
        parse(document(*routes), steer=[line.removeprefix("route ").partition(":")[0]])


def same_keys(one: tuple[str, str], two: tuple[str, str]) -> list[dict[str, Any]]:
    """Two routes, each over b and one more, with (runtime_key_prefix, that cluster)."""
    routes = []
    for name, (prefix, other) in {"one": one, "two": two}.items():
        route = steerable(name, **{other: 1, "b": 1})
        route["route"]["weighted_clusters"]["runtime_key_prefix"] = prefix
        routes.append(route)
    return routes


@pytest.mark.parametrize(
    ("routes", "steered"),
    [
        pytest.param(same_keys(("p", "a"), ("p", "a")), [], id="the same prefix"),
        pytest.param(same_keys(("p", "a"), ("q", "a")), ["one", "two"], id="two prefixes"),
        # p + x.b and p.x + b are both p.x.b.
        pytest.param(same_keys(("p", "x.b"), ("p.x", "a")), [], id="the same key by a dot"),
    ],
)
def test_a_runtime_key_moves_one_route_only(
    routes: list[dict[str, Any]], steered: list[str]
) -> None:
    given = document(*routes)
    given["clusters"].append(cluster("x.b"))
    config = parse(given)
    assert [r.name for r in config.steered] == steered
    assert all("moves another route too" in line for line in config.left_alone)


def test_a_key_of_a_route_to_one_cluster_counts_too() -> None:
    """Set to 0 for the sake of the other route, it would leave that one nowhere to go."""
    single = steerable("single", a=1)
    single["route"]["weighted_clusters"]["runtime_key_prefix"] = "weights.shop"
    config = parse(document(steerable(), single))
    assert config.steered == ()


def test_what_the_other_control_plane_has_is_no_mistake_here() -> None:
    over_ads = {"route_config_name": "theirs", "config_source": {"ads": {}}}
    inline = {"route_config": table(steerable("inner"), name="inline")}
    given = document(
        steerable(),
        {"match": {"prefix": "/"}, "route": {"cluster": "unknown"}},
    )
    given["clusters"].append(cluster("eds", type="EDS"))
    given["listeners"] = [listener("l", rds=over_ads), listener("m", **inline)]
    given |= {"dynamic_resources": {"ads_config": {}}, "admin": {}}
    config = parse(given)
    assert [r.name for r in config.steered] == ["shop", "inner"]
    [line] = config.left_alone
    assert line.startswith("routes theirs: not known here (envoy.listeners[0]")
    assert line.endswith("give them under routes")


def test_names_are_those_of_a_mesh_that_is_served() -> None:
    """So that a plan survives the change from one mode to the other."""
    given = load("static")
    lines = "\n".join(parse(given).left_alone)
    for route in parse_operator(given).steered:
        assert f"route {route.name}: " in lines


def keys(snapshot: Snapshot) -> dict[str, float]:
    assert snapshot.type_urls == (RUNTIME,)
    [resource] = snapshot.of(RUNTIME).resources.values()
    layer = Runtime.FromString(AnyMessage.FromString(resource.packed).value)
    assert layer.name == resource.name == "mine"
    return {key: value.number_value for key, value in layer.layer.fields.items()}


def translator(config: OperatorConfig) -> OverlayTranslator:
    return OverlayTranslator(config, runtime_layer="mine")


def test_weights_and_limits_are_keys_of_one_layer() -> None:
    budget = RetryBudget(12.5, 2)
    plan = Plan({"shop": {"a": 0.6, "b": 0.4}}, {"b": BreakerLimits(7, 8, 9, 10, budget)})
    limits: dict[str, float] = {
        "max_requests": 7,
        "max_connections": 8,
        "max_pending_requests": 9,
        "max_retries": 10,
    }
    limits |= {"retry_budget.budget_percent": 12.5, "retry_budget.min_retry_concurrency": 2}
    assert keys(translator(parse(document())).snapshot(plan)) == {
        "weights.shop.a": 6000,
        "weights.shop.b": 4000,
        **{
            f"circuit_breakers.b.{priority}.{name}": value
            for priority in ("default", "high")
            for name, value in limits.items()
        },
    }


def test_the_operators_own_numbers_need_no_keys() -> None:
    config = parse(document())
    own = translator(config)
    start = own.snapshot(config.original_plan())
    assert keys(start) == {}
    moved = own.snapshot(Plan({"shop": {"a": 0.6, "b": 0.4}}, {}), start)
    assert keys(moved)
    restored = own.snapshot(config.original_plan(), moved)
    assert keys(restored) == {}
    assert restored.version == start.version


def test_the_same_plan_is_the_same_snapshot() -> None:
    own = translator(parse(document()))
    plan = Plan({"shop": {"a": 0.6, "b": 0.4}}, {})
    first = own.snapshot(plan)
    assert own.snapshot(plan, first) is first


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1))
def test_a_route_has_all_of_its_keys_or_none(part: float) -> None:
    config = parse(document())
    made = keys(translator(config).snapshot(Plan({"shop": {"a": part, "b": 1.0 - part}}, {})))
    if part == 0.75:
        assert made == {}
    else:
        assert made.keys() == {"weights.shop.a", "weights.shop.b"}
        assert sum(made.values()) == 10_000


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (Plan({"nope": {"a": 1.0}}, {}), "weights.nope"),
        (Plan({"shop": {"a": 1.0}}, {}), "weights.shop"),
        (Plan({}, {"z": BreakerLimits.around(8)}), "limits.z"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_before_it_is_pushed(plan: Plan, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        translator(parse(document())).snapshot(plan)
    assert caught.value.field == field


def test_a_split_that_routes_to_nowhere_is_refused_before_it_is_pushed() -> None:
    [route] = parse(document()).steered
    with pytest.raises(MeshError, match=r"weights\.shop.*give a cluster a weight above 0"):
        weight_keys(route, {"a": 0, "b": 0})


ADDRESSES: dict[str, Any] = {
    "node_id": "n",
    "node_cluster": "c",
    "xds_address": "127.0.0.1:18000",
    "admin_address": "127.0.0.1:9901",
    "runtime_layer": "mine",
}


def named(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from named(inner)


@pytest.mark.parametrize("delta", [True, False])
def test_what_is_added_to_a_bootstrap_leaves_ads_to_the_other(delta: bool) -> None:
    text = bootstrap_yaml(**ADDRESSES, delta=delta, overlay=True)
    assert text.startswith(OVERLAY_NOTES)
    made = yaml.safe_load(text)
    assert set(made) == {
        "layered_runtime",
        "static_resources",
        "stats_flush_on_admin",
        "stats_config",
    }
    assert not {"ads", "ads_config", "node", "admin"} & set(named(made))
    [layer] = made["layered_runtime"]["layers"]
    assert (layer["name"], layer["rtds_layer"]["name"]) == ("mine", "mine")
    source = layer["rtds_layer"]["rtds_config"]
    assert source["initial_fetch_timeout"] == "1s"
    whole = bootstrap(**ADDRESSES, delta=delta)
    assert source["api_config_source"] == whole["dynamic_resources"]["ads_config"]
    assert made["static_resources"] == whole["static_resources"]
    assert made["stats_config"] == whole["stats_config"]
