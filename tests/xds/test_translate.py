"""A plan and the operator's configuration in, resources out: golden files, and what must not move.

`EIGENMESH_GOLDEN=write pytest tests/xds/test_translate.py` writes the golden files anew, so that
a change of the translation is read as a diff.
"""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToJson
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenmesh.mesh import BreakerLimits, MeshError, Plan
from eigenmesh.xds.operator import OperatorConfig, parse_operator
from eigenmesh.xds.protos import unpack
from eigenmesh.xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME, SECRET, Resource
from eigenmesh.xds.snapshot import Snapshot
from eigenmesh.xds.translate import Translator

GOLDEN = Path(__file__).parent / "golden"
FIXED = (LISTENER, CLUSTER, ENDPOINT, SECRET)


@cache
def load(name: str) -> tuple[OperatorConfig, Plan]:
    document = yaml.safe_load((GOLDEN / f"{name}.yaml").read_text())
    return parse_operator(document["envoy"]), Plan.from_dict(document["plan"])


def content(resource: Resource) -> Any:
    message = unpack(AnyMessage.FromString(resource.packed))
    assert message is not None
    return json.loads(MessageToJson(message, preserving_proto_field_name=True))


def shown(snapshot: Snapshot) -> dict[str, Any]:
    return {
        type_url.rpartition(".")[2]: {
            name: {
                **({"needs": sorted(n for _, n in r.needs)} if r.needs else {}),
                **({"warms": sorted(n for _, n in r.warms)} if r.warms else {}),
                "content": content(r),
            }
            for name, r in sorted(snapshot.of(type_url).resources.items())
        }
        for type_url in sorted(snapshot.type_urls)
    }


@pytest.mark.parametrize("name", ["static", "matcher"])
def test_golden(name: str) -> None:
    config, plan = load(name)
    made = shown(Translator(config).snapshot(plan))
    file = GOLDEN / f"{name}.out.yaml"
    if os.environ.get("EIGENMESH_GOLDEN") == "write":
        file.write_text(yaml.safe_dump(made, width=100))
    assert made == yaml.safe_load(file.read_text())


def splits(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """Weights by stat_prefix, wherever in the tables they stand."""
    found: dict[str, dict[str, int]] = {}

    def look(data: Any) -> None:
        if isinstance(data, dict):
            if "weighted_clusters" in data.get("route", {}):
                weighted = data["route"]["weighted_clusters"]
                assert "total_weight" not in weighted
                found[data["stat_prefix"]] = {
                    c["name"]: int(c.get("weight", 0)) for c in weighted["clusters"]
                }
            for value in data.values():
                look(value)
        elif isinstance(data, list):
            for value in data:
                look(value)

    for resource in snapshot.of(ROUTE).resources.values():
        look(content(resource))
    return found


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_weights_are_basis_points_that_sum_and_nothing_else_moves(parts: list[float]) -> None:
    config, plan = load("matcher")
    fractions = {r: dict.fromkeys(w, 0.5) for r, w in plan.weights.items()}
    for (route, split), part in zip(fractions.items(), parts, strict=True):
        fractions[route] = dict(zip(split, (part, 1.0 - part), strict=True))
    translator = Translator(config)
    before = translator.snapshot(plan)
    after = translator.snapshot(Plan(fractions, {}), before)
    stats, own = config.route_stats(), config.original_plan().weights
    by_name = {r.name: r for r in config.steered}
    shown_splits = splits(after)
    for route, split in fractions.items():
        got = shown_splits[stats[route].stat_prefix]
        if split == own[route]:
            assert got == by_name[route].weights, "the operator's own, to the last digit"
            continue
        assert sum(got.values()) == 10_000
        for name, fraction in split.items():
            assert abs(got[name] - 10_000 * fraction) <= 1
    for type_url in FIXED:
        assert after.of(type_url) is before.of(type_url) or not before.of(type_url).resources


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1), st.integers(1, 5000))
def test_a_snapshot_depends_on_the_plan_alone_not_on_what_came_before(
    part: float, limit: int
) -> None:
    config, plan = load("static")
    other = Plan(
        {"split": {"green": part, "blue": 1.0 - part}}, {"blue": BreakerLimits.around(limit)}
    )
    used = Translator(config)
    history = used.snapshot(other, used.snapshot(plan))
    back = used.snapshot(plan, history)
    assert history.version == Translator(config).snapshot(other).version
    assert back.version == Translator(config).snapshot(plan).version


def test_only_the_changed_table_is_new() -> None:
    config, plan = load("static")
    translator = Translator(config)
    before = translator.snapshot(plan)
    weights = {**plan.weights, "split": {"green": 0.5, "blue": 0.5}}
    after = translator.snapshot(Plan(weights, plan.limits), before)
    assert after.of(ROUTE).changed_since(before.of(ROUTE)) == {"https/local_route"}
    for type_url in (*FIXED, RUNTIME):
        assert after.of(type_url) is before.of(type_url)
    assert translator.snapshot(Plan(weights, plan.limits), after) is after


def work(routes: int, clusters: int) -> int:
    """How many calls it takes to move every weight of one route; counted, since a clock would
    measure the machine."""
    names = [f"c{n}" for n in range(clusters)]
    weighted = {"clusters": [{"name": name, "weight": 1} for name in names]}
    entries = [
        {"name": f"r{n}", "match": {"prefix": f"/{n}"}, "route": {"weighted_clusters": weighted}}
        for n in range(routes)
    ]
    host = {"name": "v", "domains": ["*"], "routes": entries}
    config = parse_operator(
        {
            "clusters": [{"name": name, "connect_timeout": "1s"} for name in names],
            "routes": [{"name": "t", "virtual_hosts": [host]}],
        }
    )
    plan = config.original_plan()
    translator = Translator(config)
    before = translator.snapshot(plan)
    total = clusters * (clusters + 1) / 2
    split = {name: n / total for n, name in enumerate(names, 1)}
    # As after a tick: all parts of the plan are new, one of them is different.
    weights = {route: dict(own) for route, own in plan.weights.items()} | {"r0": split}
    moved = Plan(weights, plan.limits)
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        after = translator.snapshot(moved, before)
    finally:
        sys.setprofile(None)
    assert after.version != before.version
    return calls


def test_work_grows_no_faster_than_the_table() -> None:
    assert work(routes=1, clusters=1_000) <= 10 * work(routes=1, clusters=100)
    assert work(routes=1_000, clusters=2) <= 10 * work(routes=100, clusters=2)


def test_routes_that_do_not_move_are_hardly_looked_at() -> None:
    more = work(routes=300, clusters=20) - work(routes=200, clusters=20)
    assert more <= 5 * 100


def test_a_plan_that_leaves_out_a_route_leaves_the_operators_weights() -> None:
    config, _ = load("static")
    made = splits(Translator(config).snapshot(Plan({}, {})))
    assert made["http_local_route_shop_example_com_1"] == {"blue": 90, "green": 10}


def runtime(snapshot: Snapshot) -> dict[str, float]:
    [resource] = snapshot.of(RUNTIME).resources.values()
    layer = Runtime.FromString(AnyMessage.FromString(resource.packed).value)
    return {key: value.number_value for key, value in layer.layer.fields.items()}


def test_limits_are_runtime_keys_of_both_priorities() -> None:
    config, _ = load("static")
    limits = BreakerLimits(
        max_requests=7, max_connections=8, max_pending_requests=9, max_retries=10
    )
    translator = Translator(config, runtime_layer="mine")
    made = translator.snapshot(Plan({}, {"green": limits}))
    assert set(made.of(RUNTIME).resources) == {"mine"}
    assert runtime(made) == {
        f"circuit_breakers.green.{priority}.{name}": value
        for priority in ("default", "high")
        for name, value in {
            "max_requests": 7,
            "max_connections": 8,
            "max_pending_requests": 9,
            "max_retries": 10,
        }.items()
    }


def test_the_operators_own_limits_need_no_keys() -> None:
    """Without them the thresholds of both priorities are what the operator configured."""
    config, _ = load("static")
    made = Translator(config).snapshot(config.original_plan())
    assert runtime(made) == {}
    assert made.of(RUNTIME).resources, "Envoy waits for the layer, even if it is empty"


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (Plan({"nope": {"a": 1.0}}, {}), "weights.nope"),
        (Plan({"split": {"blue": 1.0}}, {}), "weights.split"),
        (Plan({"split": {"blue": 0.5, "green": 0.25, "red": 0.25}}, {}), "weights.split"),
        (Plan({}, {"red": BreakerLimits.around(8)}), "limits.red"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_before_it_is_pushed(plan: Plan, field: str) -> None:
    config, _ = load("static")
    with pytest.raises(MeshError) as caught:
        Translator(config).snapshot(plan)
    assert caught.value.field == field


def test_the_operators_configuration_is_not_changed_by_a_plan() -> None:
    config, plan = load("static")
    before = {n: t.message.SerializeToString(deterministic=True) for n, t in config.tables.items()}
    Translator(config).snapshot(plan)
    assert before == {
        n: t.message.SerializeToString(deterministic=True) for n, t in config.tables.items()
    }
    assert isinstance(config.tables["https/local_route"].message, RouteConfiguration)
