"""Arrows between packages go one way, and heavy imports stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import eigenmesh

ROOT = Path(eigenmesh.__file__).parent

BELOW: dict[str, set[str]] = {
    "mesh": set(),
    "v1": set(),
    "telemetry": {"mesh"},
    "optimize": {"mesh"},
    "xds": {"mesh"},
    "guard": {"mesh"},
    "control": {"guard", "telemetry", "optimize", "xds", "mesh"},
    "api": {"control", "guard", "telemetry", "optimize", "xds", "mesh", "v1"},
    "web": {"api", "control", "guard", "optimize", "mesh", "v1"},
    "demo": {"api", "mesh", "v1"},
    "cli": {"api", "web", "control", "demo", "xds", "mesh", "v1"},
}


def imported_packages(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {n.split(".")[1] for n in names if n.startswith("eigenmesh.")}


@pytest.mark.parametrize("package", BELOW)
def test_a_package_imports_only_what_is_below_it(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        upwards = imported_packages(file) & set(BELOW) - BELOW[package] - {package}
        assert not upwards, f"{file.relative_to(ROOT)} imports {sorted(upwards)}"


def test_every_package_has_its_place() -> None:
    packages = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert packages == set(BELOW)


def test_mesh_is_pure() -> None:
    allowed = {"__future__", "collections", "dataclasses", "enum", "functools", "math", "typing"}
    allowed |= {"numpy", "eigenmesh"}
    for file in (ROOT / "mesh").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert {a.name.split(".")[0] for a in node.names} <= allowed, file.name
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.split(".")[0] in allowed, file.name


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_process_that_serves_xds_never_imports_pennylane() -> None:
    loaded = modules_after("import eigenmesh.cli.serve, eigenmesh.control.sidecar")
    assert not {m for m in loaded if m.split(".")[0] in ("pennylane", "pennylane_lightning")}
    assert "eigenmesh.optimize.worker" in loaded


def test_check_stays_light() -> None:
    """What makes `eigenmesh check` start at once: none of the slow imports is reached."""
    loaded = modules_after("import eigenmesh.cli.main, eigenmesh.control.settings")
    heavy = {"pennylane", "scipy", "envoy_data_plane", "aiohttp", "betterproto2"}
    assert not {m for m in loaded if m.split(".")[0] in heavy}
