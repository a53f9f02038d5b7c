"""Definitions of the operator's own Envoy: what it knows is understood, a slip is still a slip."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool

from eigenmesh.demo.processes import envoy_binary
from eigenmesh.xds.definitions import read_definitions
from eigenmesh.xds.operator import OperatorError, parse_operator
from eigenmesh.xds.protos import message_type
from eigenmesh.xds.resource import CLUSTER, LISTENER, Resource
from eigenmesh.xds.translate import Translator

from .test_operator import BASE, ROUTER, listener, load, table, weighted

LIMIT = "t.io/envoy.extensions.filters.http.body_size_limit.v3.BodySizeLimit"


@pytest.fixture(scope="module")
def envoys() -> DescriptorPool:
    return read_definitions(envoy_binary())


def filtered(*filters: dict[str, Any], **manager: Any) -> dict[str, Any]:
    """BASE with a listener that has these HTTP filters."""
    configs = [*filters, {"@type": ROUTER}]
    http = [{"name": f"f{i}", "typed_config": config} for i, config in enumerate(configs)]
    return {**copy.deepcopy(BASE), "listeners": [listener("l", http_filters=http, **manager)]}


def refuse(document: dict[str, Any], **options: Any) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        parse_operator(document, **options)
    return caught.value


def shown(resource: Resource, definitions: DescriptorPool) -> str:
    """As text, what its Anys hold spelt out."""
    any_message = message_type("google.protobuf.Any", definitions)
    assert any_message is not None
    message = any_message.FromString(resource.packed)
    return text_format.MessageToString(message, as_one_line=True, descriptor_pool=definitions)


def retried(**policy: Any) -> dict[str, Any]:
    route = weighted(a=1, b=1)
    return {
        **BASE,
        "routes": [table({**route, "route": {**route["route"], "retry_policy": policy}})],
    }


@pytest.mark.parametrize(
    ("document", "place"),
    [
        pytest.param(
            filtered({"@type": LIMIT, "max_request_bytes": 7}),
            "http_filters[0].typed_config.@type",
            id="a type",
        ),
        pytest.param(
            filtered(drain_timeout_jitter={"value": 10}),
            "typed_config.drain_timeout_jitter",
            id="a field of an extension",
        ),
        pytest.param(
            retried(refresh_cluster_on_retry=True),
            "route.retry_policy.refresh_cluster_on_retry",
            id="a field of a route",
        ),
    ],
)
def test_what_only_a_newer_envoy_has(
    document: dict[str, Any], place: str, envoys: DescriptorPool
) -> None:
    error = refuse(document)
    assert error.field.endswith(place)
    assert "if a newer Envoy has it, let its binary tell: envoy_descriptors" in error.remedy
    assert parse_operator(document, definitions=envoys).steered


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        pytest.param(filtered({"@type": f"{LIMIT}s"}), "check its spelling", id="a type"),
        pytest.param(
            filtered({"@type": LIMIT, "max_request_byte": 7}),
            "did you mean max_request_bytes?",
            id="a field of a new type",
        ),
        pytest.param(
            filtered(drain_timout_jitter={"value": 10}),
            "did you mean drain_timeout_jitter?",
            id="a new field",
        ),
        pytest.param({**BASE, "hot_restart": {}}, "no such section", id="a section"),
    ],
)
def test_a_slip_is_refused_on_the_word_of_that_envoy(
    document: dict[str, Any], hint: str, envoys: DescriptorPool
) -> None:
    error = refuse(document, definitions=envoys)
    assert hint in error.remedy
    assert "newer" not in error.remedy


@pytest.mark.parametrize("name", ["static", "matcher"])
def test_where_the_definitions_come_from_does_not_show(name: str, envoys: DescriptorPool) -> None:
    """A version that changed would drain the connections of every Envoy."""
    one, two = parse_operator(load(name)), parse_operator(load(name), definitions=envoys)
    plan = one.original_plan()
    assert two.original_plan() == plan
    assert Translator(one).snapshot(plan).version == Translator(two).snapshot(plan).version


def write_set(file: Path) -> Path:
    """One extension of an Envoy's maker, as `protoc` writes it without its imports."""
    own = FileDescriptorProto(name="acme/stamp.proto", package="acme", syntax="proto3")
    kind = own.message_type.add(name="Stamp")
    for number, name in enumerate(("http_service", "secret"), 1):
        kind.field.add(name=name, number=number, type=FieldDescriptorProto.TYPE_MESSAGE,
                       label=FieldDescriptorProto.LABEL_OPTIONAL)  # fmt: skip
    kind.field[0].type_name = ".envoy.config.core.v3.HttpUri"
    kind.field[1].type_name = ".envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"
    own.dependency.append("envoy/config/core/v3/http_uri.proto")
    own.dependency.append("envoy/extensions/transport_sockets/tls/v3/secret.proto")
    file.write_bytes(FileDescriptorSet(file=[own]).SerializeToString())
    return file


def test_an_extension_of_the_operators_own_is_looked_into(tmp_path: Path) -> None:
    service = {"uri": "http://a", "cluster": "a", "timeout": "1s"}
    stamp = {"@type": "t.io/acme.Stamp", "http_service": service, "secret": {"name": "key"}}
    document = {**filtered(stamp), "secrets": [{"name": "key", "generic_secret": {}}]}
    assert refuse(document).value == "acme.Stamp"
    definitions = read_definitions(write_set(tmp_path / "acme.binpb"))
    config = parse_operator(document, definitions=definitions)
    [served] = [r for r in config.fixed if r.type_url == LISTENER]
    assert served.needs == {(CLUSTER, "a")}
    assert "sds_config { ads { } resource_api_version: V3 }" in shown(served, definitions)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, "No such file", id="no file"),
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\n\x7fhalf of a set", "damaged", id="damaged"),
        pytest.param(b"#!/bin/sh\nexec envoy\n", "give Envoy's executable itself", id="a script"),
    ],
)
def test_a_file_without_definitions_is_refused(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "envoy"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OperatorError, match=words) as caught:
        read_definitions(file)
    assert (caught.value.field, caught.value.value) == ("envoy_descriptors", str(file))
