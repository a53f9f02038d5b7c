"""The proto keeps its style and its promises; what is made from it is up to date."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from grpc_tools import protoc

import eigenmesh
from docs.write_api import PAGE, page
from eigenmesh.api.client import MeshClient
from eigenmesh.control.api_settings import ApiListen

from .test_fuzz import METHODS

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "proto"
BUF = Path(sys.executable).parent / "buf"


def buf(*args: object) -> subprocess.CompletedProcess[str]:
    argv = [str(BUF), *map(str, args)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def breaking(proto: Path) -> subprocess.CompletedProcess[str]:
    return buf("breaking", proto, "--against", PROTO / "baseline.binpb")


def test_lint() -> None:
    done = buf("lint", PROTO)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_that_was_released_is_broken() -> None:
    done = breaking(PROTO)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mesh.proto", "string why = 5;", "bytes why = 5;"),
        ("mesh.proto", "MODE_APPROVE = 2;", "MODE_ASK = 2;"),
        ("mesh_service.proto", "rpc GetRoute(", "rpc FetchRoute("),
        ("operations_service.proto", "string why = 2;", "string why = 3;"),
    ],
)
def test_a_break_is_seen(tmp_path: Path, file: str, old: str, new: str) -> None:
    changed = tmp_path / "proto"
    shutil.copytree(PROTO, changed)
    path = changed / "eigenmesh" / "v1" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert breaking(changed).returncode != 0


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    files = sorted(str(file) for file in PROTO.rglob("*.proto"))
    services = [file for file in files if file.endswith("_service.proto")]
    outs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main(["protoc", f"-I{PROTO}", *_bundled(), *outs, *files]) == 0
    grpc_out = f"--grpc_python_out={tmp_path}"
    assert protoc.main(["protoc", f"-I{PROTO}", *_bundled(), grpc_out, *services]) == 0
    made = {f.name: f.read_text() for f in (tmp_path / "eigenmesh" / "v1").iterdir()}
    there = Path(eigenmesh.__file__).parent / "v1"
    kept = {f.name: f.read_text() for f in there.glob("*_pb2*.py*")}
    assert made == kept, "run `make proto`"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs-api`"


def test_the_settings_on_the_page_are_settings() -> None:
    [text] = re.findall(r"```yaml\n(.*?)```", page(), re.S)
    api = ApiListen.model_validate(yaml.safe_load(text)["api"])
    assert [token.name for token in api.tokens] == ["ann", "grafana"]
    assert api.role_of_anyone is None


def test_the_client_has_every_call() -> None:
    for method in METHODS:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower()
        assert callable(getattr(MeshClient, name, None)), method.name


def _bundled() -> list[str]:
    return [f"-I{Path(protoc.__file__).parent / '_proto'}"]
