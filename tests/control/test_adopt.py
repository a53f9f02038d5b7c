"""Adopting a static envoy.yaml: what moves, what stays, and what cannot be adopted."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from eigenmesh.control.adopt import adopt
from eigenmesh.control.settings import SettingsError, parse_document
from eigenmesh.demo import stage
from eigenmesh.demo.processes import envoy_binary


def own(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "node": {"id": "gate-7", "cluster": "gates", "locality": {"zone": "z1"}},
        "admin": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 9911}}},
        "static_resources": stage.envoy_resources(stage.Ports()),
        "layered_runtime": {"layers": [{"name": "mine", "static_layer": {"a.b": 1}}]},
    }
    return {**document, **changes}


def split(document: dict[str, Any]) -> Any:
    return adopt(document, xds_address="127.0.0.1:18000", file="envoy.yaml")


def validate(bootstrap: dict[str, Any], folder: Path) -> None:
    (folder / "b.yaml").write_text(yaml.safe_dump(bootstrap))
    done = subprocess.run(
        [str(envoy_binary()), "--mode", "validate", "-c", str(folder / "b.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_settings_are_valid_and_only_watch() -> None:
    settings = parse_document(split(own()).settings)
    assert settings.model.mode == "observe"
    assert settings.model.telemetry.envoy is not None
    assert settings.model.telemetry.envoy.admin == ["http://127.0.0.1:9911"]
    assert {"shop", "search"} <= {r.name for r in settings.topology.routes}


def test_the_bootstrap_keeps_what_is_envoys_own_and_is_valid(tmp_path: Path) -> None:
    bootstrap = split(own()).bootstrap
    assert bootstrap["node"] == own()["node"]
    assert bootstrap["admin"] == own()["admin"]
    names = [layer["name"] for layer in bootstrap["layered_runtime"]["layers"]]
    assert names == ["mine", "eigenmesh"]
    validate(bootstrap, tmp_path)


def test_it_says_what_it_understood_steers_and_leaves_alone() -> None:
    text = "\n".join(split(own()).understood)
    assert "understood: " in text
    assert "will steer: route shop: a 33%, b 33%, c 33%" in text


def test_a_control_plane_is_kept_and_a_layer_added(tmp_path: Path) -> None:
    theirs = {"ads": {}, "resource_api_version": "V3"}
    ads = {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "a"}}],
    }
    dynamic = {"ads_config": ads, "cds_config": theirs, "lds_config": theirs}
    document = own(dynamic_resources=dynamic, stats_flush_interval="3s")
    document["static_resources"]["secrets"] = [{"name": "s", "generic_secret": {}}]
    adopted = split(document)
    settings = parse_document(adopted.settings)
    assert settings.model.overlay
    assert settings.topology.routes == ()
    assert "secrets" not in adopted.settings["envoy"]["static_resources"], "read, not served"
    text = "\n".join(adopted.understood)
    assert "overlay: this Envoy has a control plane and keeps it" in text
    assert "leaves alone: route shop: without a runtime_key_prefix" in text
    assert "will steer nothing: add the control plane's weighted routes" in text

    made = adopted.bootstrap
    assert made["dynamic_resources"] == dynamic
    assert [layer["name"] for layer in made["layered_runtime"]["layers"]] == ["mine", "eigenmesh"]
    for section, items in document["static_resources"].items():
        assert all(item in made["static_resources"][section] for item in items)
    validate(made, tmp_path)


def test_files_alone_are_a_control_plane_too(tmp_path: Path) -> None:
    for kind in ("lds", "cds"):
        (tmp_path / f"{kind}.yaml").write_text("resources: []")
    dynamic = {
        f"{kind}_config": {"path_config_source": {"path": str(tmp_path / f"{kind}.yaml")}}
        for kind in ("lds", "cds")
    }
    adopted = split({"dynamic_resources": dynamic})
    assert adopted.settings["overlay"] is True
    [layer] = adopted.bootstrap["layered_runtime"]["layers"]
    assert layer["name"] == "eigenmesh"
    validate({"node": {"id": "n", "cluster": "c"}, **adopted.bootstrap}, tmp_path)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "static_resources: missing"),
        (own(admin={"address": {"pipe": {"path": "/x"}}}), "admin.address.*TCP admin port"),
        (own(static_resources={"clusters": [{"nam": "x"}]}), r"clusters\[0\].*nam"),
    ],
)
def test_what_cannot_be_adopted_is_said_with_the_remedy(
    document: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        split(document)


def test_what_only_this_envoy_knows_is_adopted_with_its_definitions() -> None:
    newer = own()
    newer["static_resources"]["listeners"][0]["tcp_keepalive"] = {"keepalive_time": 120}
    with pytest.raises(SettingsError, match="adopt --envoy"):
        split(newer)
    adopted = adopt(newer, xds_address="127.0.0.1:1", file="envoy.yaml", envoy=envoy_binary())
    assert adopted.settings["envoy_descriptors"] == str(envoy_binary())
    assert any(line.startswith("reads: ") for line in adopted.understood)
    # A file that needs none does not come to depend on that Envoy.
    plain = adopt(own(), xds_address="127.0.0.1:1", file="envoy.yaml", envoy=envoy_binary())
    assert "envoy_descriptors" not in plain.settings
