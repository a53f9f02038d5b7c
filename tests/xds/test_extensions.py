"""Extension configurations (ECDS) and their place in the operator's document."""

from __future__ import annotations

import http.client
from typing import Any

import pytest

from eigenmesh.xds.operator import OperatorError, parse_operator
from eigenmesh.xds.resource import CLUSTER, EXTENSION_CONFIG

from .conftest import Rig

KIND = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
ADS = {"ads": {}, "resource_api_version": "V3"}


def mark(value: str) -> dict[str, Any]:
    """A filter that marks every response."""
    header = {"append": {"header": {"key": "x-mark", "value": value}}}
    config = {"@type": KIND, "mutations": {"response_mutations": [header]}}
    return {"name": "mark", "typed_config": config}


def discovered(document: dict[str, Any], source: dict[str, Any]) -> None:
    """Puts a filter `mark` that is configured elsewhere before the router."""
    listener = document["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    discovery = {"config_source": source, "type_urls": [KIND]}
    manager["http_filters"].insert(0, {"name": "mark", "config_discovery": discovery})


async def test_a_filter_is_configured_and_changed_and_its_listener_is_not_touched(
    rig: Rig,
) -> None:
    discovered(rig.document, ADS)
    port = rig.document["static_resources"]["listeners"][0]["address"]["socket_address"]

    def marked() -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", port["port_value"], timeout=5)
        connection.request("GET", "/shop")
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status == 200
        return response.getheader("x-mark")

    server = rig.server()
    rig.document["extension_configs"] = [mark("one")]
    server.publish(rig.translator().snapshot(rig.config.original_plan()))
    await server.start()
    try:
        await rig.start()
        assert marked() == "one"
        before = rig.counters()
        rig.document["extension_configs"] = [mark("two")]
        changed = rig.translator().snapshot(rig.config.original_plan())
        server.publish(changed)
        version = changed.of(EXTENSION_CONFIG).version
        assert await server.wait_acked(EXTENSION_CONFIG, version, 10.0)
        assert marked() == "two"
        touched = {n: v for n, v in rig.counters().items() if "listener" in n}
        assert touched == {n: v for n, v in before.items() if "listener" in n}
    finally:
        await server.stop()


def document(source: dict[str, Any], *extensions: dict[str, Any]) -> dict[str, Any]:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "http_filters": [],
    }
    listener = {
        "name": "l",
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    given: dict[str, Any] = {"static_resources": {"listeners": [listener]}}
    discovered(given, source)
    return given | {"extension_configs": list(extensions)}


def test_a_source_of_its_own_is_left_alone() -> None:
    path = {"path_config_source": {"path": "/etc/envoy/mark.yaml"}, "resource_api_version": "V3"}
    [line] = parse_operator(document(path)).left_alone
    assert line.startswith("extension mark: it comes from a source of its own")


def test_what_is_fetched_here_must_be_given_here() -> None:
    with pytest.raises(OperatorError, match="give this configuration under extension_configs"):
        parse_operator(document(ADS))


def test_the_clusters_that_a_configuration_uses_come_before_it() -> None:
    service = {"envoy_grpc": {"cluster_name": "auth"}}
    kind = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
    extension = {"name": "mark", "typed_config": {"@type": kind, "grpc_service": service}}
    given = document(ADS, extension)
    given["static_resources"]["clusters"] = [{"name": "auth", "connect_timeout": "1s"}]
    [made] = [r for r in parse_operator(given).fixed if r.type_url == EXTENSION_CONFIG]
    assert made.needs == {(CLUSTER, "auth")}
