"""The bootstrap: Envoy accepts it, and it says what the design needs."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from eigenmesh.demo.processes import envoy_binary
from eigenmesh.xds.bootstrap import LATENCY_BUCKETS, bootstrap, bootstrap_yaml


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "node_id": "envoy-1",
        "node_cluster": "edge",
        "xds_address": "127.0.0.1:18000",
        "admin_address": "127.0.0.1:9901",
        "runtime_layer": "eigenmesh",
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="delta"),
        pytest.param({"delta": False}, id="sotw"),
        pytest.param({"xds_address": "eigenmesh.internal:18000"}, id="a host name"),
        pytest.param({"xds_address": "[::1]:18000"}, id="IPv6"),
        # Envoy's YAML reader takes these for booleans and numbers unless they are quoted.
        pytest.param({"node_id": "y", "node_cluster": "N", "runtime_layer": "on"}, id="booleans"),
        pytest.param(
            {"node_id": "1", "node_cluster": "0x1f", "runtime_layer": "1e3"}, id="numbers"
        ),
        pytest.param({"node_id": "~", "node_cluster": "null", "runtime_layer": ".5"}, id="others"),
    ],
)
def test_envoy_accepts_it(changes: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text(bootstrap_yaml(**settings(**changes)))
    argv = [str(envoy_binary()), "--mode", "validate", "-c", str(file), "--log-level", "error"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_text_is_the_data() -> None:
    assert yaml.safe_load(bootstrap_yaml(**settings())) == bootstrap(**settings())


def test_what_the_design_needs_is_there() -> None:
    made = bootstrap(**settings(runtime_layer="mine"))
    layers = made["layered_runtime"]["layers"]
    # A later layer wins: nothing may come after the one that is served.
    assert [layer["name"] for layer in layers] == ["static", "admin", "mine"]
    assert layers[-1]["rtds_layer"]["name"] == "mine"
    assert made["stats_flush_on_admin"] is True
    stream = made["dynamic_resources"]["ads_config"]
    assert stream["api_type"] == "DELTA_GRPC"
    [service] = stream["grpc_services"]
    [cluster] = made["static_resources"]["clusters"]
    assert service["envoy_grpc"]["cluster_name"] == cluster["name"]
    backoff = service["envoy_grpc"]["retry_policy"]["retry_back_off"]
    assert backoff == {"base_interval": "0.200s", "max_interval": "2s"}
    assert bootstrap(**settings(delta=False))["dynamic_resources"]["ads_config"]["api_type"] == (
        "GRPC"
    )


def test_the_buckets_are_fine_where_latencies_are_and_few() -> None:
    assert list(LATENCY_BUCKETS) == sorted(set(LATENCY_BUCKETS))
    between = [b for b in LATENCY_BUCKETS if 5 <= b <= 1_000]
    steps = [high / low for low, high in pairwise(between)]
    assert max(steps) <= 1.26
    assert len(LATENCY_BUCKETS) < 45
