"""TAB in a real bash, with names from a running server."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eigenmesh.cli.main import app
from eigenmesh.v1 import mesh_service_pb2 as reads
from tests.cli.api import Api, routes

BIN = Path(sys.executable).parent
SCRIPT = """
source <(_EIGENMESH_COMPLETE=source_bash eigenmesh)
COMP_WORDS=({words}) COMP_CWORD={last}
_eigenmesh_completion eigenmesh
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def tab(line: str, address: str) -> list[str]:
    """What bash is offered when TAB is typed after the line."""
    words = line.split(" ")
    script = SCRIPT.format(words=" ".join(map(shlex.quote, words)), last=len(words) - 1)
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "EIGENMESH_ADDRESS": address,
        },
    )
    assert not done.stderr
    return [word for word in done.stdout.split("\n") if word]


def offered(line: str, address: str) -> list[str]:
    """The same without bash, and quicker."""
    words = line.split(" ")
    asked = {
        "_EIGENMESH_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "EIGENMESH_ADDRESS": address,
    }
    done = CliRunner().invoke(app, env=asked, prog_name="eigenmesh")
    assert done.exit_code == 0, done.output
    return [word for word in done.stdout.split("\n") if word]


def test_commands(api: Api) -> None:
    assert tab("eigenmesh ctl re", api.address) == ["resume", "reject", "restore"]
    assert not api.asked


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("eigenmesh ctl unpin s", ["search", "shop"]),
        ("eigenmesh ctl unpin sh", ["shop"]),
        ("eigenmesh ctl pin search ", ["b=0.250", "c=0.750"]),
        ("eigenmesh ctl promote search ", ["c"]),
        ("eigenmesh ctl mode auto --cluster ", ["a", "b"]),
        ("eigenmesh ctl explain 1", ["16", "17"]),
        ("eigenmesh ctl rollback ", ["16", "17"]),
        ("eigenmesh ctl approve ", ["17"]),
        ("eigenmesh ctl whatif --demand ", ["search=200"]),
        ("eigenmesh ctl whatif --without b --capacity ", ["a=0.5", "b=0.5"]),
    ],
)
def test_names_of_the_running_mesh(line: str, names: list[str], api: Api) -> None:
    assert sorted(offered(line, api.address)) == names


def test_names_in_bash(api: Api) -> None:
    assert tab("eigenmesh ctl unpin s", api.address) == ["search", "shop"]


def test_where_to_ask_may_be_in_the_line_itself(api: Api) -> None:
    line = f"eigenmesh ctl unpin --address {api.address} --timeout 3 sh"
    assert offered(line, "127.0.0.1:1") == ["shop"]


def test_nobody_there_is_no_noise() -> None:
    assert offered("eigenmesh ctl unpin s", "127.0.0.1:1") == []


def test_a_shell_does_not_wait_for_a_slow_one(api: Api) -> None:
    def slow(_: object) -> reads.ListRoutesResponse:
        time.sleep(3.0)
        return reads.ListRoutesResponse()

    api.answers["ListRoutes"] = slow
    assert offered("eigenmesh ctl unpin s", api.address) == []


def test_a_name_that_cannot_be_typed_is_not_offered(api: Api) -> None:
    route, other = routes()
    route.id = "s\x1bx"
    api.answers["ListRoutes"] = reads.ListRoutesResponse(routes=[route, other])
    assert offered("eigenmesh ctl unpin s", api.address) == ["shop"]
