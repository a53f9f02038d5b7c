"""The commands as a user types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from eigenmesh.demo import stage
from eigenmesh.demo.processes import envoy_binary
from tests.xds.test_limiters import ADAPTIVE, OPTIONS

ROOT = Path(__file__).parents[2]


def eigenmesh(*args: str | Path, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eigenmesh", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(yaml.safe_dump(stage.settings(stage.Ports(), tmp_path / "j.sqlite")))
    return file


def validate_with_envoy(bootstrap: str, folder: Path, *options: str) -> None:
    (folder / "envoy.yaml").write_text(bootstrap)
    done = subprocess.run(
        [str(envoy_binary()), "--mode", "validate", "-c", str(folder / "envoy.yaml"), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_check_says_what_would_be_steered(settings_file: Path) -> None:
    done = eigenmesh("check", settings_file)
    assert done.returncode == 0, done.stderr
    assert "valid" in done.stdout
    assert "steers route shop: a 33%, b 33%, c 33%" in done.stdout


def test_check_says_what_envoy_limits_itself(settings_file: Path) -> None:
    document = yaml.safe_load(settings_file.read_text())
    first, second, *_ = document["envoy"]["static_resources"]["clusters"]
    first["outlier_detection"] = {"consecutive_5xx": 3}
    second["typed_extension_protocol_options"] = {
        OPTIONS: {
            "@type": f"type.googleapis.com/{OPTIONS}",
            "explicit_http_config": {"http_protocol_options": {}},
            "http_filters": [ADAPTIVE],
        }
    }
    settings_file.write_text(yaml.safe_dump(document))
    done = eigenmesh("check", settings_file)
    assert done.returncode == 0, done.stderr
    assert "outlier detection of a: consecutive_5xx 3, interval 10s" in done.stdout
    assert "leaves alone: limits of b: Envoy's adaptive_concurrency filter" in done.stdout


def test_check_refuses_in_one_line_and_with_status_1(settings_file: Path) -> None:
    settings_file.write_text(settings_file.read_text() + "intervall: 3s\n")
    done = eigenmesh("check", settings_file)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith(f"eigenmesh: {settings_file}: intervall: unknown key")


@pytest.mark.parametrize("command", ["check", "run", "bootstrap"])
def test_a_missing_file_is_one_line(command: str, tmp_path: Path) -> None:
    arguments = [tmp_path / "none"] if command == "check" else ["-c", tmp_path / "none"]
    done = eigenmesh(command, *arguments)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"eigenmesh: {tmp_path / 'none'}: cannot be read: No such file or directory\n"
    )


def test_bootstrap_is_valid_for_the_real_envoy(settings_file: Path, tmp_path: Path) -> None:
    done = eigenmesh("bootstrap", "-c", settings_file)
    assert done.returncode == 0, done.stderr
    validate_with_envoy(done.stdout, tmp_path)


def test_the_composed_bootstrap_is_the_printed_one_and_valid(tmp_path: Path) -> None:
    file = ROOT / "deploy" / "eigenmesh.yaml"
    done = eigenmesh("bootstrap", "-c", file, "--xds-address", "eigenmesh:18000")
    assert done.returncode == 0, done.stderr
    assert (ROOT / "deploy" / "envoy.yaml").read_text() == done.stdout, (
        "regenerate deploy/envoy.yaml with the command above"
    )
    validate_with_envoy(done.stdout, tmp_path)


def test_overlay_says_what_is_served_and_what_to_add(settings_file: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(settings_file.read_text())
    del settings["steer"]
    settings_file.write_text(yaml.safe_dump(settings))
    done = eigenmesh("bootstrap", "--overlay", "-c", settings_file)
    assert done.returncode == 1
    assert done.stderr == (
        f"eigenmesh: {settings_file}: overlay: False: set overlay: true, or leave out --overlay\n"
    )
    settings_file.write_text(yaml.safe_dump(settings | {"overlay": True}))
    done = eigenmesh("check", settings_file)
    assert done.returncode == 0, done.stderr
    assert "  overlay: serves one runtime layer (eigenmesh) and nothing else\n" in done.stdout
    done = eigenmesh("bootstrap", "--overlay", "-c", settings_file)
    assert done.returncode == 0, done.stderr
    lacking = [line for line in done.stdout.splitlines() if line.startswith("# not steered: ")]
    assert any(
        "route shop: " in line and "runtime_key_prefix: shop" in line and "routes[0]" in line
        for line in lacking
    )
    # Envoy itself puts it together with what the operator has.
    stage_only = yaml.safe_dump(stage.static_bootstrap(stage.Ports()))
    validate_with_envoy(stage_only, tmp_path, "--config-yaml", done.stdout)


def test_ctl_without_a_server_says_what_to_do() -> None:
    done = eigenmesh("ctl", "status", "--address", "127.0.0.1:1")
    assert done.returncode == 3
    assert "is `eigenmesh run` up" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [[], ["check"], ["run"], ["bootstrap"], ["demo"], ["ctl"]])
def test_help_teaches(command: list[str]) -> None:
    done = eigenmesh(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_a_taken_port_is_one_line(settings_file: Path) -> None:
    import socket

    port = int(yaml.safe_load(settings_file.read_text())["xds"]["listen"].rpartition(":")[2])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = eigenmesh("run", "-c", settings_file)
    assert done.returncode == 1
    assert "cannot start" in done.stderr
    assert "Traceback" not in done.stderr
