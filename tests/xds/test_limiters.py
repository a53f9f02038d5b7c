"""Envoy's own limiters: whose limits are left alone for them, and what is said of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from eigenmesh.mesh import ENVOY_DEFAULT_LIMITS, BreakerLimits, Cluster, Plan, RetryBudget
from eigenmesh.xds.operator import OperatorConfig, parse_operator
from eigenmesh.xds.translate import limit_keys

from .test_operator import ROUTER, cluster, listener, table, weighted

FILTER = (
    "type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency"
)
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
FILE = {"path_config_source": {"path": "/etc/envoy/x.yaml"}, "resource_api_version": "V3"}
ADS = {"ads": {}, "resource_api_version": "V3"}

ADAPTIVE: dict[str, Any] = {
    "name": "adaptive",
    "typed_config": {
        "@type": FILTER,
        "gradient_controller_config": {
            "concurrency_limit_params": {"concurrency_update_interval": "0.1s"},
            "min_rtt_calc_params": {"interval": "60s"},
        },
        "enabled": {"default_value": False, "runtime_key": "adaptive"},
    },
}
FETCHED: dict[str, Any] = {
    "name": "adaptive",
    "config_discovery": {"config_source": FILE, "type_urls": [FILTER]},
}
ROUTED = {"name": "router", "typed_config": {"@type": ROUTER}}


def document(http_filter: dict[str, Any] | None = None, **clusters: Any) -> dict[str, Any]:
    """Listener `in` sends to a and b, `out` to c and d; the filter stands on `in`."""
    filters = [http_filter, ROUTED] if http_filter else [ROUTED]
    inner = {**weighted(a=1, b=1), "name": "inner"}
    outer = {**weighted(c=1, d=1), "name": "outer"}
    return {
        "listeners": [
            listener("in", route_config=table(inner, name="t"), http_filters=filters),
            listener("out", rds={"route_config_name": "o", "config_source": ADS}),
        ],
        "routes": [table(outer, name="o")],
        "clusters": [cluster(name, **clusters.get(name, {})) for name in "abcd"],
    }


def parse(given: dict[str, Any], **options: Any) -> OperatorConfig:
    return parse_operator(copy.deepcopy(given), **options)


@pytest.mark.parametrize("http_filter", [ADAPTIVE, FETCHED], ids=["given", "fetched"])
def test_the_filter_holds_what_its_listener_routes_to(http_filter: dict[str, Any]) -> None:
    config = parse(document(http_filter))
    assert config.adaptive == {"a", "b"}
    assert [line for line in config.left_alone if line.startswith("limits of")] == [
        f"limits of {name}: Envoy's adaptive_concurrency filter holds its requests in flight"
        for name in "ab"
    ]
    assert config.topology().adaptive == {"a", "b"}


def test_a_fetched_table_and_a_scoped_one_are_routed_to_as_well() -> None:
    given = document()
    manager = given["listeners"][1]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [ADAPTIVE, ROUTED]
    assert parse(given).adaptive == {"c", "d"}
    del manager["rds"]
    manager["scoped_routes"] = {
        "name": "scopes",
        "scope_key_builder": {"fragments": [{"header_value_extractor": {"name": "x"}}]},
        "scoped_rds": {"scoped_rds_config_source": FILE},
    }
    assert parse(given).adaptive == set("abcd")


def test_among_the_upstream_filters_it_holds_one_cluster() -> None:
    options = {
        "@type": f"type.googleapis.com/{OPTIONS}",
        "explicit_http_config": {"http_protocol_options": {}},
        "http_filters": [ADAPTIVE],
    }
    config = parse(document(b={"typed_extension_protocol_options": {OPTIONS: options}}))
    assert config.adaptive == {"b"}


def test_without_it_nothing_is_left_alone() -> None:
    config = parse(document())
    assert (config.adaptive, config.left_alone) == (frozenset(), ())


def test_overlay_mode_reads_the_filter_too() -> None:
    assert parse(document(ADAPTIVE), overlay=True).adaptive == {"a", "b"}
    assert parse(document(), overlay=True).adaptive == set()


def keys(config: OperatorConfig, **limits: BreakerLimits) -> set[str]:
    made = limit_keys(Plan({}, limits), config)
    return {key.removeprefix("circuit_breakers.") for key in made if ".default." in key}


def test_no_plan_moves_more_than_retries_of_what_the_filter_holds() -> None:
    own = {"a": {"circuit_breakers": {"thresholds": [{"max_requests": 200}]}}}
    config = parse(document(ADAPTIVE, **own))
    assert keys(config, a=BreakerLimits(200, 1024, 1024, 3), b=ENVOY_DEFAULT_LIMITS) == set()
    stormy = BreakerLimits(30, 1024, 1024, 1, RetryBudget(0.0, 0))
    retries = ["max_retries", "retry_budget.budget_percent", "retry_budget.min_retry_concurrency"]
    assert keys(config, a=stormy) == {f"a.default.{name}" for name in retries}
    # The same for a cluster that it does not hold.
    assert "c.default.max_requests" in keys(config, c=stormy)
    grants = limit_keys(Plan({}, {"a": stormy}), config, {"a": 10})
    assert not any("max_requests" in key for key in grants)


def test_outlier_detection_is_told_with_what_envoy_assumes() -> None:
    given = {"consecutive_5xx": 2, "interval": "2.5s"}
    config = parse(document(a={"outlier_detection": given}, c={"outlier_detection": {}}))
    assert config.ejecting() == {
        "a": "consecutive_5xx 2, interval 2.5s, base_ejection_time 30s, max_ejection_percent 10",
        "c": "consecutive_5xx 5, interval 10s, base_ejection_time 30s, max_ejection_percent 10",
    }


def test_the_domain_knows_them_by_cluster() -> None:
    known = parse(document(ADAPTIVE)).topology().by_name
    assert known["a"] == Cluster("a", adaptive=True)
    assert known["c"] == Cluster("c")
