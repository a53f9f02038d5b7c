"""Nothing that an operator wrote is lost or changed, but for what adoption is documented to change.

Both sides are understood by Envoy's own message types and YAML rules (`envoy_types`), not by the
code under test. The documented changes:

- an inline `route_config` becomes a RouteConfiguration fetched over ADS, renamed where its name is
  missing or used twice;
- a steered route gets a `stat_prefix` if it has none, and its weights are put as integers that
  stand in the same proportion (`total_weight`, deprecated, goes);
- a secret of `static_resources` is fetched over ADS;
- a listener without a name gets one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse

from eigenmesh.xds.resource import CLUSTER, LISTENER, ROUTE, RUNTIME, SECRET
from eigenmesh.xds.snapshot import Snapshot

from . import envoy_types
from .adoption import Adopted, adopt
from .compare import differences, losses
from .corpus import NAMES, Filled, fill
from .envoy_types import Plain

_ADS: Plain = {"resource_api_version": "V3", "ads": {}}
_WEIGHT = 1e-4
"""A plan is pushed in basis points: the coarsest step of a weight."""


_BOOTSTRAP = "envoy.config.bootstrap.v3.Bootstrap"


class Case:
    """One corpus file, before and after."""

    def __init__(self, filled: Filled) -> None:
        self.filled = filled

    @cached_property
    def before(self) -> Plain:
        return envoy_types.read(envoy_types.load_yaml(self.filled.text), _BOOTSTRAP)

    @cached_property
    def adopted(self) -> Adopted:
        return adopt(self.filled)

    @cached_property
    def bootstrap(self) -> Plain:
        return envoy_types.read(envoy_types.load_yaml(self.adopted.bootstrap), _BOOTSTRAP)


@pytest.fixture(scope="module")
def case(
    request: pytest.FixtureRequest, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    return Case(fill(request.param, certificates, tmp_path_factory.mktemp(request.param)))


def served(snapshot: Snapshot, type_url: str) -> dict[str, Plain]:
    """What Envoy would read off the wire, by name."""
    response = DiscoveryResponse.FromString(snapshot.of(type_url).sotw_body)
    kind = type_url.rpartition("/")[2]
    found = [envoy_types.unpack(packed.value, kind) for packed in response.resources]
    return {message["name"]: message for message in found}


@pytest.mark.parametrize("case", NAMES, indirect=True)
def test_every_resource_survives(case: Case) -> None:
    static = case.before["static_resources"]
    snapshot = case.adopted.snapshot()
    tables = served(snapshot, ROUTE)
    listeners = list(served(snapshot, LISTENER).values())
    clusters, secrets = served(snapshot, CLUSTER), served(snapshot, SECRET)
    own_secrets = {s["name"] for s in static.get("secrets", [])}
    # What the bootstrap refers to must be there when Envoy starts.
    in_bootstrap = {c["name"]: c for c in case.bootstrap["static_resources"]["clusters"]}
    fetched: list[str] = []
    found = [
        line
        for before, after in zip(static["listeners"], listeners, strict=True)
        for line in differences(
            before, _restored(after, tables, own_secrets, fetched), after["name"], _pardon
        )
    ]
    for before in static["clusters"]:
        kept = clusters.get(before["name"]) or in_bootstrap[before["name"]]
        after = _restored(kept, {}, own_secrets, [])
        found += differences(before, after, before["name"], _pardon)
    found += differences({s["name"]: s for s in static.get("secrets", [])}, secrets, "secrets")
    assert not found, "\n".join(found)
    assert set(clusters) <= {c["name"] for c in static["clusters"]}
    assert sorted(fetched) == sorted(tables), "a table that nothing fetches, or fetched twice"
    assert set(snapshot.type_urls) <= {LISTENER, ROUTE, CLUSTER, SECRET, RUNTIME}


@pytest.mark.parametrize("case", NAMES, indirect=True)
def test_what_can_be_steered_is_found_and_the_rest_is_named(case: Case) -> None:
    config, sidecar = case.adopted.config, case.filled.sidecar
    declared = {tuple(sorted(split)) for split in sidecar.steered}
    assert {tuple(sorted(r.clusters)) for r in config.topology().routes} == declared
    for route in sidecar.left_alone:
        assert any(route in line for line in config.left_alone), config.left_alone
    [runtime] = served(case.adopted.snapshot(), RUNTIME).values()
    assert not runtime.get("layer"), "the operator's own limits need no override"


GIVES_WAY = (".stats_flush_interval:", ".stats_config.use_all_default_tags: False")
"""Adoption replaces these, since telemetry needs the opposite, and says so."""


@pytest.mark.parametrize("case", NAMES, indirect=True)
def test_the_bootstrap_keeps_what_is_not_served(case: Case) -> None:
    before = {k: v for k, v in case.before.items() if k != "static_resources"}
    found = [f for f in losses(before, case.bootstrap, "") if not f.startswith(GIVES_WAY)]
    assert not found, "\n".join(found)


def test_a_change_that_is_not_documented_is_seen(certificates: Path, tmp_path: Path) -> None:
    filled = fill("headers_gzip", certificates, tmp_path)
    text = filled.text.replace("window_bits: 10", "window_bits: 11")
    before, after = (
        envoy_types.read(envoy_types.load_yaml(t), _BOOTSTRAP) for t in (filled.text, text)
    )
    [line] = differences(before, after, "", _pardon)
    assert "window_bits: 10 became 11" in line
    assert not list(differences(before, before, ""))


def _restored(
    message: Any, tables: Mapping[str, Plain], secrets: set[str], fetched: list[str]
) -> Any:
    """The message with the documented changes undone, as far as they can be without the original:
    what was fetched is put inline again."""
    if isinstance(message, list):
        return [_restored(item, tables, secrets, fetched) for item in message]
    if not isinstance(message, dict):
        return message
    again = {k: _restored(v, tables, secrets, fetched) for k, v in message.items()}
    rds = again.get("rds")
    if rds and rds.get("config_source") == _ADS:
        del again["rds"]
        fetched.append(rds["route_config_name"])
        again["route_config"] = {**tables[rds["route_config_name"]], "renamed": True}
    if again.get("sds_config") == _ADS and again.get("name") in secrets:
        del again["sds_config"]
    return again


def _pardon(before: Plain, after: Plain) -> tuple[Plain, Plain]:
    """Both without the documented changes between them."""
    before, after = dict(before), dict(after)
    if after.pop("renamed", False):
        before.pop("name", None)
        after.pop("name")
    if "name" not in before and after.get("name", "").startswith("listener-"):
        del after["name"]
    split = before.get("route", {}).get("weighted_clusters", {})
    if len(split.get("clusters", ())) > 1 and "stat_prefix" not in before:
        after.pop("stat_prefix", None)
    # A header's number is compared with the weights themselves, so these must not be scaled.
    if "clusters" in before and "header_name" not in before:
        one, two = _shares(before), _shares(after)
        if one and two and all(map(_same_share, one, two)):
            before["clusters"] = [_without(c, "weight") for c in before["clusters"]]
            after["clusters"] = [_without(c, "weight") for c in after["clusters"]]
            before.pop("total_weight", None)
    return before, after


def _same_share(one: float, two: float) -> bool:
    """Within a basis point; but a little is not nothing, nor nothing a little."""
    return abs(one - two) <= _WEIGHT and (one > 0) == (two > 0)


def _shares(split: Plain) -> list[float]:
    clusters = split.get("clusters")
    if not isinstance(clusters, list) or not all(isinstance(c, dict) for c in clusters):
        return []
    weights = [c.get("weight", 0) for c in clusters]
    return [w / sum(weights) for w in weights] if sum(weights) else []


def _without(message: Plain, key: str) -> Plain:
    return {k: v for k, v in message.items() if k != key}
