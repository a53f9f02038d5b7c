"""Settings: what is accepted, and one line with field, value and remedy for what is not."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from eigenmesh.control.journal import Retention
from eigenmesh.control.settings import Settings, SettingsError, load_settings, parse_settings
from eigenmesh.mesh import ProbePolicy
from eigenmesh.optimize.problem import CircuitSettings

ROOT = Path(__file__).parents[2]


def cluster(name: str) -> dict[str, Any]:
    return {"name": name, "type": "STATIC", "connect_timeout": "1s"}


def document() -> dict[str, Any]:
    weighted = {"clusters": [{"name": "a", "weight": 3}, {"name": "b", "weight": 1}]}
    routes = [{"name": "shop", "match": {"prefix": "/"}, "route": {"weighted_clusters": weighted}}]
    return {
        "mesh": "shop",
        "telemetry": {"envoy": {"admin": ["http://127.0.0.1:9901"]}},
        "envoy": {
            "routes": [
                {
                    "name": "edge",
                    "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}],
                }
            ],
            "clusters": [cluster("a"), cluster("b")],
        },
    }


def parse(changes: dict[str, Any]) -> Settings:
    merged = copy.deepcopy(document())
    for path, value in changes.items():
        *parents, last = path.split(".")
        target = merged
        for part in parents:
            target = target.setdefault(part, {})
        target[last] = value
    return parse_settings(yaml.safe_dump(merged), "eigenmesh.yaml")


def complaints(changes: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(changes)
    assert all("\n" not in line for line in caught.value.lines)
    return caught.value.lines


def test_the_smallest_document_is_enough() -> None:
    settings = parse({})
    assert settings.model.interval == 5.0
    assert settings.model.mode == "observe"
    assert [r.name for r in settings.topology.routes] == ["shop"]
    assert settings.operator.original_plan().weights == {"shop": {"a": 0.75, "b": 0.25}}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        (0.25, 0.25),
        ("3.5", 3.5),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        (4, 4.0),
        ("0.5s", 0.5),
    ],
)
def test_durations_are_written_as_people_write_them(text: Any, seconds: float) -> None:
    assert parse({"interval": text}).model.interval == seconds


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"intervall": "2s"}, ["intervall", "unknown key", "did you mean 'interval'?"]),
        ({"guard.max_stp": 0.1}, ["guard.max_stp", "unknown key", "did you mean 'max_step'?"]),
        ({"guard.max_step": "big"}, ["guard.max_step: 'big'", "valid number"]),
        ({"guard.max_step": 3}, ["guard.max_step: 3", "less than or equal to 1"]),
        ({"interval": "soon"}, ["interval: 'soon'", "write a duration such as 2s"]),
        ({"mode": "yolo"}, ["mode: 'yolo'", "'observe', 'approve' or 'auto'"]),
        ({"xds.listen": "18000"}, ["xds.listen: '18000'", "write host:port"]),
        ({"xds.listen": "0.0.0.0:1"}, ["xds", "plain text", "public: true"]),
        ({"telemetry": {}}, ["telemetry", "exactly one of envoy and prometheus"]),
        ({"objective.ladder": [1, 2, 3]}, ["objective.ladder", "2, 4, 8"]),
        ({"guard.min_weight": 0.6, "guard.max_weight": 0.7}, ["route shop", "'1.2'", "lower"]),
        ({"guard.min_weight": 0.1, "guard.max_weight": 0.3}, ["route shop", "'0.6'", "raise"]),
        ({"guard.routes": {"shp": {}}}, ["guard.routes: 'shp'", "did you mean 'shop'?"]),
        (
            {"guard.routes": {"shop": {"clusters": {"c": {"max_weight": 0.1}}}}},
            ["guard.routes.shop.clusters: 'c'", "use one of: a, b"],
        ),
        ({"clusters": {"zz": {"host": "h"}}}, ["clusters: 'zz'", "use one of: a, b"]),
        ({"steer": ["nope"]}, ["steer", "nope"]),
        ({"circuits": {"layers": 11}}, ["circuits.layers: 11", "less than or equal to 10"]),
        ({"circuits": {"algorithm": "qaoa2"}}, ["circuits.algorithm: 'qaoa2'", "'vqe'"]),
        ({"envoy.clusters": [cluster("a")]}, ["'b'"]),
        ({"envoy.clusters": [cluster("a"), cluster("a"), cluster("b")]}, ["'a'"]),
        (
            {"envoy.clusters": [cluster("a"), {**cluster("b"), "lb_polcy": "RANDOM"}]},
            ["envoy.clusters[1]", "lb_polcy"],
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_field_value_and_remedy(
    changes: dict[str, Any], words: list[str]
) -> None:
    lines = complaints(changes)
    assert len(lines) == 1, lines
    assert lines[0].startswith("eigenmesh.yaml: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_several_mistakes_are_several_lines() -> None:
    assert len(complaints({"interval": "soon", "guard.deadband": 7})) == 2


def test_a_missing_file_and_broken_yaml_say_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="line 2, column"):
        parse_settings("a: 1\nb: [", "x.yaml")
    with pytest.raises(SettingsError, match="the document is a list"):
        parse_settings("[1]", "x.yaml")


def test_bounds_and_egress_reach_the_domain() -> None:
    settings = parse(
        {
            "clusters": {"a": {"host": "h1", "egress_cost": 0.01}},
            "guard.routes": {"shop": {"min_weight": 0.1, "clusters": {"b": {"max_weight": 0.4}}}},
        }
    )
    assert settings.topology.by_name["a"].host == "h1"
    assert settings.topology.by_name["a"].egress_cost == 0.01
    assert settings.guard.bounds_of("shop", "b").max_weight == 0.4
    assert settings.guard.bounds_of("shop", "b").min_weight == 0.1
    assert settings.guard.bounds_of("shop", "a").min_weight == 0.1


def test_probes_reach_the_domain_and_are_off_unless_asked_for() -> None:
    assert parse({}).guard.probe == ProbePolicy(rise=0.0)
    told = parse({"guard.probe": {"rise": 0.25, "seconds": "30s", "share": 0.1}})
    assert told.guard.probe == ProbePolicy(rise=0.25, seconds=30.0, share=0.1)


def test_the_journal_is_a_path_or_says_how_much_it_keeps() -> None:
    assert parse({}).model.journal.path == Path("eigenmesh.sqlite")
    assert parse({"journal": "/x/j.sqlite"}).model.journal.path == Path("/x/j.sqlite")
    own = parse({"journal": {"path": "j", "keep_days": 7, "max_megabytes": 50}}).model.journal
    assert own.path == Path("j")
    assert own.retention() == Retention(days=7.0, megabytes=50.0)
    page = (ROOT / "docs" / "journal.md").read_text()
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        documented = parse(yaml.safe_load(block)).model.journal
        assert documented == parse({}).model.journal, "the defaults"


def test_circuits_reach_the_domain() -> None:
    assert parse({}).model.circuits.settings() == CircuitSettings()
    told = parse({"circuits": {"device": "eigenmesh.qubit", "shots": 64, "seconds": "200ms"}})
    expected = CircuitSettings(device="eigenmesh.qubit", shots=64, seconds=0.2)
    assert told.model.circuits.settings() == expected


def test_a_public_address_is_allowed_when_asked_for_and_warned_about() -> None:
    settings = parse({"xds": {"listen": "0.0.0.0:18000", "public": True}})
    assert any("plain text" in line for line in settings.warnings)


def test_overlay_mode_reads_what_it_does_not_serve() -> None:
    settings = parse({"overlay": True})
    assert settings.topology.routes == ()
    [line] = settings.operator.left_alone
    assert "add `runtime_key_prefix: shop`" in line


def test_overlay_mode_warns_of_weights_that_may_all_be_zero() -> None:
    given = document()
    [route] = given["envoy"]["routes"][0]["virtual_hosts"][0]["routes"]
    route["stat_prefix"] = "shop"
    route["route"]["weighted_clusters"]["runtime_key_prefix"] = "shop"
    routes = given["envoy"]["routes"]
    assert parse({"overlay": True, "envoy.routes": routes}).warnings == ()
    guard = {"min_weight": 0, "probe_floor": 0}
    settings = parse({"overlay": True, "envoy.routes": routes, "guard": guard})
    assert len(settings.warnings) == 2
    assert "route shop: the weight of a may be 0" in settings.warnings[0]


def test_the_composed_stack_has_valid_settings() -> None:
    settings = load_settings(ROOT / "deploy" / "eigenmesh.yaml")
    assert {r.name for r in settings.topology.routes} == {"shop", "search"}


def test_couplings_are_told_or_left_to_be_learned() -> None:
    topology = parse(
        {
            "clusters.a": {"host": "box", "zone": "far"},
            "clusters.b": {"host": "box", "zone": "far", "egress_cost": 0.5},
            "zones.far.egress_cost": 0.002,
        }
    ).topology
    assert topology.couplings == {"box": None}
    assert [c.egress_cost for c in topology.clusters] == [0.002, 0.5]
    told = parse(
        {"clusters.a.host": "box", "clusters.b.host": "box", "hosts.box.coupling": 0.4}
    ).topology
    assert told.couplings == {"box": 0.4}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hosts.box.coupling": 1.0, "clusters.a.host": "bax"}, "hosts: 'box': .*'bax'"),
        ({"hosts.box.coupling": 1.5}, "hosts.box.*less than or equal to 1"),
        ({"clusters.a.zone": "far"}, "clusters.a.zone: 'far': no such zone"),
        ({"clusters.a.calls": {"shp": 2}}, "clusters.a.calls: 'shp': .*'shop'"),
        (
            {"clusters.a.calls": {"shop": "often"}},
            "calls.shop: 'often': give .* or learn",
        ),
        ({"clusters.a.calls": {"shop": "learn"}}, "shop -> shop.*circle"),
    ],
)
def test_couplings_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    assert any(re.search(words, line) for line in complaints(changes))
