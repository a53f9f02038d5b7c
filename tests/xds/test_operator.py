"""The operator's configuration: what is understood, what is refused and how that is said."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.route.v3.route_components_pb2 import Route, RouteAction
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.runtime.v3.rtds_pb2 import Runtime
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import ParseDict

from eigenmesh.mesh import BreakerLimits, Plan, Retries, RetryBudget
from eigenmesh.xds.operator import OperatorConfig, OperatorError, parse_operator
from eigenmesh.xds.resource import ROUTE, RUNTIME, Resource
from eigenmesh.xds.steering import each_route
from eigenmesh.xds.translate import Translator

GOLDEN = Path(__file__).parent / "golden"
MANAGER = (
    "type.googleapis.com/"
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def load(name: str) -> Any:
    return yaml.safe_load((GOLDEN / f"{name}.yaml").read_text())["envoy"]


def cluster(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", **more}


def weighted(**weights: int) -> dict[str, Any]:
    clusters = [{"name": name, "weight": weight} for name, weight in weights.items()]
    return {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}}}


def table(*routes: dict[str, Any], name: str = "edge") -> dict[str, Any]:
    host = {"name": "v", "domains": ["*"], "routes": list(routes)}
    return {"name": name, "virtual_hosts": [host]}


def listener(name: str, **manager: Any) -> dict[str, Any]:
    config = {
        "@type": MANAGER,
        "stat_prefix": "in",
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
        **manager,
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 1}}
    filters = [{"name": "http", "typed_config": config}]
    return {"name": name, "address": address, "filter_chains": [{"filters": filters}]}


def unpacked(resource: Resource, into: Any) -> Any:
    assert AnyMessage.FromString(resource.packed).Unpack(into)
    return into


def document(*routes: dict[str, Any]) -> dict[str, Any]:
    return {"routes": [table(*routes)], "clusters": [cluster("a"), cluster("b")]}


BASE = document(weighted(a=1, b=1))


def refuse(changes: dict[str, Any], **options: Any) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        parse_operator({**copy.deepcopy(BASE), **changes}, **options)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        pytest.param(
            {"clusters": [cluster("a"), cluster("b", lb_polcy="RANDOM")]},
            "envoy.clusters[1].lb_polcy",
            ["'RANDOM'", "did you mean lb_policy?"],
            id="an unknown field",
        ),
        pytest.param(
            {"clusters": [cluster("a"), cluster("b", lb_policy="RANDM")]},
            "envoy.clusters[1].lb_policy",
            ["'RANDM'", "did you mean RANDOM?", "ROUND_ROBIN"],
            id="an unknown enum value",
        ),
        pytest.param(
            {"clusters": [cluster("a"), cluster("b", connect_timeout=1)]},
            "envoy.clusters[1].connect_timeout",
            ["1", "such as 0.25s"],
            id="a duration without unit",
        ),
        pytest.param(
            {"clusters": [cluster("a"), cluster("b", load_assignment={"endpoints": {}})]},
            "envoy.clusters[1].load_assignment.endpoints",
            ["write a list"],
            id="a mapping for a list",
        ),
        pytest.param(
            {"static_resources": {"listeners": [listener("l", stat_prefx="x")]}},
            "envoy.static_resources.listeners[0].filter_chains[0].filters[0].typed_config"
            ".stat_prefx",
            ["did you mean stat_prefix?"],
            id="an unknown field inside an extension",
        ),
        pytest.param(
            {
                "listeners": [
                    listener(
                        "l",
                        http_filters=[
                            {"name": "x", "typed_config": {"@type": "t.io/envoy.no.such.v3.Type"}}
                        ],
                    )
                ]
            },
            "envoy.listeners[0].filter_chains[0].filters[0].typed_config"
            ".http_filters[0].typed_config.@type",
            ["'envoy.no.such.v3.Type'", "check its spelling"],
            id="an unknown extension",
        ),
        pytest.param(
            {"clusters": [cluster("a")]},
            "envoy.routes[0].virtual_hosts[0].routes[0].route.weighted_clusters.clusters[1].name",
            ["'b'", "define this cluster, or use one of: a"],
            id="a route to an unknown cluster",
        ),
        pytest.param(
            {"clusters": [cluster("a"), cluster("b"), cluster("a")]},
            "envoy.clusters[2].name",
            ["'a'", "envoy.clusters[0] has this name too"],
            id="a name used twice",
        ),
        pytest.param(
            {"clusters": [cluster("")]},
            "envoy.clusters[0].name",
            ["give it a name"],
            id="no name",
        ),
        pytest.param(
            {"routes": [table(weighted(a=0, b=0))]},
            "envoy.routes[0].virtual_hosts[0].routes[0].route.weighted_clusters",
            ["make at least one weight 1 or more"],
            id="no weight at all",
        ),
        pytest.param(
            {"clusters": [cluster("a"), cluster("b", type="EDS")]},
            "envoy.clusters[1].eds_cluster_config",
            ["'b'", "under endpoints"],
            id="EDS without endpoints",
        ),
        pytest.param(
            {
                "listeners": [
                    listener("l", rds={"route_config_name": "x", "config_source": {"ads": {}}})
                ]
            },
            "envoy.listeners[0].filter_chains[0].filters[0].typed_config.rds.route_config_name",
            ["'x'", "under routes"],
            id="RDS without its table",
        ),
        pytest.param(
            {"cluster": []}, "envoy.cluster", ["did you mean clusters?"], id="an unknown section"
        ),
        pytest.param(
            {"static_resources": {"routes": []}},
            "envoy.static_resources.routes",
            ["use one of: clusters, listeners, secrets"],
            id="an unknown static section",
        ),
        pytest.param({"clusters": {}}, "envoy.clusters", ["write a list"], id="not a list"),
        pytest.param(
            {"clusters": ["a"]}, "envoy.clusters[0]", ["write a mapping"], id="not a mapping"
        ),
        pytest.param(
            {"static_resources": []}, "envoy.static_resources", ["write a mapping"], id="a list"
        ),
    ],
)
def test_a_mistake_names_its_place_its_value_and_the_remedy(
    changes: dict[str, Any], field: str, words: list[str]
) -> None:
    error = refuse(changes)
    assert error.field == field
    for word in words:
        assert word in str(error)


def test_steer_names_routes_that_exist_and_can_be_steered() -> None:
    both = document({**weighted(a=1, b=1), "name": "one"}, {**weighted(a=1, b=2), "name": "two"})
    config = parse_operator(both, steer=["two"])
    assert [r.name for r in config.steered] == ["two"]
    assert "route one: not listed in steer" in config.left_alone
    error = refuse(both, steer=["two", "three"])
    assert (error.field, error.value) == ("steer[1]", "three")
    assert "use one of: one, two" in error.remedy
    twice = weighted(a=1, b=1)
    twice["route"]["weighted_clusters"]["clusters"].append({"name": "a", "weight": 3})
    error = refuse(document({**twice, "name": "one"}), steer=["one"])
    assert "cannot be steered: it names a cluster twice" in error.remedy


def test_routes_get_unique_names_and_stat_prefixes() -> None:
    config = parse_operator(
        document(
            {**weighted(a=1, b=1), "name": "own"},
            {**weighted(a=1, b=1), "name": "shared"},
            {**weighted(a=1, b=1), "name": "shared"},
            weighted(a=1, b=1),
            {**weighted(a=1, b=1), "name": "given", "stat_prefix": "kept"},
            {**weighted(a=1, b=1), "name": "given.kept"},
        )
    )
    assert {name: stats.stat_prefix for name, stats in config.route_stats().items()} == {
        "own": "own",
        "edge/v/1": "edge_v_1",
        "edge/v/2": "edge_v_2",
        "edge/v/3": "edge_v_3",
        "given": "kept",
        "given.kept": "given_kept",
    }
    written: list[str] = []

    def look(_number: int, _path: str, route: Route) -> None:
        written.append(route.stat_prefix)

    each_route(config.tables["edge"].message.virtual_hosts[0], "", look)
    assert written == ["own", "edge_v_1", "edge_v_2", "edge_v_3", "kept", "given_kept"]


def test_routes_that_envoy_cannot_count_apart_are_left_alone() -> None:
    shared = {**weighted(a=1, b=1), "stat_prefix": "same"}
    config = parse_operator(document({**shared, "name": "x"}, {**shared, "name": "y"}))
    assert config.steered == ()
    assert any("shares its stat_prefix" in line for line in config.left_alone)


def test_what_cannot_be_steered_says_why() -> None:
    by_header = weighted(a=1, b=1)
    by_header["route"]["weighted_clusters"]["clusters"][0] = {"cluster_header": "x-to", "weight": 1}
    config = parse_operator(document({**by_header, "name": "h"}, {**weighted(a=1), "name": "one"}))
    assert config.steered == ()
    assert config.left_alone == (
        "route h: a request header picks one of its clusters",
        "routes over one cluster: one: name them in steer, beside the weighted ones, to have the "
        "limits of their clusters decided",
    )


@pytest.mark.parametrize(
    "action", [{"cluster": "a"}, {"weighted_clusters": {"clusters": [{"name": "a", "weight": 3}]}}]
)
def test_a_route_over_one_cluster_is_steered_if_it_is_named_and_its_action_stays(
    action: dict[str, Any],
) -> None:
    direct = {"name": "direct", "match": {"prefix": "/"}, "route": action}
    config = parse_operator(document(direct, {**weighted(a=1, b=1), "name": "w"}), steer=["direct"])
    [route] = config.steered
    assert (route.name, route.clusters, route.single) == ("direct", ("a",), True)
    assert config.left_alone == ("route w: not listed in steer",)
    assert config.topology().steered_clusters == ("a",)
    plan = Plan({"direct": {"a": 1.0}}, {"a": BreakerLimits.around(20)})
    snapshot = Translator(config).snapshot(plan)
    [table] = snapshot.of(ROUTE).resources.values()
    served = unpacked(table, RouteConfiguration()).virtual_hosts[0].routes[0]
    assert served.stat_prefix == "direct"  # to count its requests by
    assert served.route == ParseDict(action, RouteAction())
    [layer] = snapshot.of(RUNTIME).resources.values()
    keys = unpacked(layer, Runtime()).layer
    assert keys["circuit_breakers.a.default.max_requests"] == 20
    [line] = [
        line
        for line in parse_operator(document(direct, weighted(a=1, b=1))).left_alone
        if "direct" in line
    ]
    assert line.startswith("routes over one cluster: direct: name them in steer")


def understand(name: str) -> OperatorConfig:
    return parse_operator(load(name))


def test_a_pasted_envoy_yaml_is_understood() -> None:
    config = understand("static")
    # Two listeners call their table `local_route`.
    assert set(config.tables) == {"http/local_route", "https/local_route"}
    assert [r.name for r in config.steered] == [
        "http/local_route/shop.example.com/1",
        "split",
    ]
    assert [line.partition(":")[0] for line in config.left_alone] == [
        "admin",
        "node",
        "layered_runtime",
        "routes over one cluster",
    ]
    assert [c.name for c in config.topology().clusters] == ["blue", "green"]


def test_the_original_plan_is_the_operators_own() -> None:
    plan = understand("static").original_plan()
    assert plan.weights == {
        "http/local_route/shop.example.com/1": {"blue": 0.9, "green": 0.1},
        "split": {"green": 0.25, "blue": 0.75},
    }
    # Default priority, and Envoy's defaults where the operator gave nothing.
    assert plan.limits == {"blue": BreakerLimits(200, 1024, 1024, 3)}


@pytest.mark.parametrize(
    ("host", "route", "found"),
    [
        ({}, {}, Retries()),
        ({"retry_on": "5xx"}, {}, Retries(1)),
        ({"retry_on": "5xx", "num_retries": 3}, {"retry_on": "reset"}, Retries(1)),
        ({}, {"retry_on": "connect-failure, 5xx", "num_retries": 0}, Retries()),
        ({}, {"retry_on": "connect-failure", "num_retries": 4}, Retries()),
        (
            {},
            {"retry_on": "gateway-error,reset", "num_retries": 2, "per_try_timeout": "0.25s"},
            Retries(2, 0.25),
        ),
    ],
)
def test_a_routes_retries_are_its_own_or_its_virtual_hosts(
    host: dict[str, Any], route: dict[str, Any], found: Retries
) -> None:
    given = document(weighted(a=1, b=1))
    [virtual_host] = given["routes"][0]["virtual_hosts"]
    if host:
        virtual_host["retry_policy"] = host
    if route:
        virtual_host["routes"][0]["route"]["retry_policy"] = route
    assert parse_operator(given).topology().routes[0].retries == found


def test_a_retry_budget_is_the_operators_own_limit_too() -> None:
    given = document(weighted(a=1, b=1))
    budget = {"budget_percent": {"value": 35.0}}
    given["clusters"][0]["circuit_breakers"] = {"thresholds": [{"retry_budget": budget}]}
    limits = BreakerLimits(1024, 1024, 1024, 3, RetryBudget(35.0, 3))
    assert parse_operator(given).original_plan().limits == {"a": limits}


def test_a_threshold_of_zero_is_no_limit_that_a_plan_could_hold() -> None:
    breakers = {"thresholds": [{"max_requests": 0}]}
    given = document(weighted(a=1, b=1))
    given["clusters"][0]["circuit_breakers"] = breakers
    assert parse_operator(given).original_plan().limits == {}


def test_sources_of_their_own_are_left_alone() -> None:
    source = {"path_config_source": {"path": "/etc/envoy/x.yaml"}, "resource_api_version": "V3"}
    eds = cluster("b", type="EDS", eds_cluster_config={"eds_config": source})
    rds = {"route_config_name": "theirs", "config_source": source}
    config = parse_operator(
        {**document(weighted(a=1, b=1)), "clusters": [cluster("a"), eds]}
        | {"listeners": [listener("l", rds=rds)]}
    )
    assert [line.partition(":")[0] for line in config.left_alone] == [
        "routes theirs",
        "endpoints b",
    ]
    [served] = [r for r in config.fixed if r.name == "b"]
    assert not served.warms
    assert b"/etc/envoy/x.yaml" in served.packed


def test_listeners_without_a_name_get_one() -> None:
    given = {**document(weighted(a=1, b=1)), "listeners": [listener("")]}
    assert [r.name for r in parse_operator(given).fixed if "Listener" in r.type_url] == [
        "listener-0"
    ]


def test_the_document_is_not_changed() -> None:
    given = load("static")
    before = copy.deepcopy(given)
    parse_operator(given)
    assert given == before


def test_versions_are_the_same_in_every_process() -> None:
    """Maps inside an Any are serialised in an order of each process's own, unless care is taken;
    a restarted server would then re-create clusters and drain listeners."""
    code = (
        "import sys, yaml\n"
        "from eigenmesh.xds.operator import parse_operator\n"
        "from eigenmesh.xds.translate import Translator\n"
        "for name in sys.argv[1:]:\n"
        "    config = parse_operator(yaml.safe_load(open(name))['envoy'])\n"
        "    print(Translator(config).snapshot(config.original_plan()).version)\n"
    )
    files = [str(GOLDEN / f"{name}.yaml") for name in ("static", "matcher")]
    seen = {
        subprocess.run(
            [sys.executable, "-c", code, *files], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(4)
    }
    assert len(seen) == 1
    assert len(set(next(iter(seen)).split())) == 2


def test_understanding_stays_light() -> None:
    code = (
        "import sys\n"
        "import eigenmesh.xds.operator, eigenmesh.xds.translate\n"
        "heavy = {'grpc', 'envoy_data_plane', 'betterproto2', 'pydantic'}\n"
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
