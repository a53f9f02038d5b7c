"""Every command of `ctl` against a server: what it asks, and how the answer is shown.

`EIGENMESH_GOLDEN=write pytest tests/cli/test_ctl.py` writes the golden tables anew, so that a
change of them is read as a diff.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from typer.testing import Result

from eigenmesh.v1 import mesh_pb2 as pb
from eigenmesh.v1 import mesh_service_pb2 as reads
from tests.cli.api import Api, decision, mesh, nodes, plan

GOLDEN = Path(__file__).parent / "golden"
Ctl = Callable[..., Result]

LOOKS: dict[str, type[Message]] = {
    "status": pb.Mesh,
    "nodes": reads.ListNodesResponse,
    "routes": reads.ListRoutesResponse,
    "clusters": reads.ListClustersResponse,
    "decisions": reads.ListDecisionsResponse,
    "explain": pb.Decision,
    "audit": reads.ListAuditEntriesResponse,
    "propose": pb.Decision,
    "whatif": reads.WhatIfResponse,
}
WRITES: dict[str, tuple[str, str]] = {
    "mode auto": ("SetMode", "{name: meshes/-, mode: MODE_AUTO}"),
    "mode approve --route shop": ("SetMode", "{name: meshes/-/routes/shop, mode: MODE_APPROVE}"),
    "mode observe --cluster a": ("SetMode", "{name: meshes/-/clusters/a, mode: MODE_OBSERVE}"),
    "pause deploy": ("Pause", "{name: meshes/-, why: deploy}"),
    "resume": ("Resume", "{name: meshes/-}"),
    "freeze 2h": ("Freeze", "{name: meshes/-, duration: 7200s}"),
    "freeze --until 2026-12-24T18:00Z": (
        "Freeze",
        "{name: meshes/-, until: '2026-12-24T18:00:00Z'}",
    ),
    "pin shop a=0.7 b=30%": ("Pin", "{name: meshes/-/routes/shop, weights: {a: 0.7, b: 0.3}}"),
    "unpin shop": ("Unpin", "{name: meshes/-/routes/shop}"),
    "promote shop v2": ("Promote", "{name: meshes/-/routes/shop, cluster: v2}"),
    "policy max_step=0.05 min_gain=default": (
        "SetPolicy",
        "{name: meshes/-, values: {max_step: 0.05}, reset: [min_gain]}",
    ),
    "approve": ("Approve", "{name: meshes/-/decisions/pending}"),
    "approve 17": ("Approve", "{name: meshes/-/decisions/17}"),
    "reject 17 --why later": ("Reject", "{name: meshes/-/decisions/17, why: later}"),
    "rollback 12": ("RollBack", "{name: meshes/-/decisions/12}"),
    "restore": ("Restore", "{name: meshes/-}"),
}


@pytest.mark.parametrize("command", LOOKS)
def test_tables(command: str, ctl: Ctl) -> None:
    done = ctl(command)
    assert done.exit_code == 0, done.stderr
    file = GOLDEN / f"{command}.txt"
    if os.environ.get("EIGENMESH_GOLDEN") == "write":
        file.write_text(done.stdout)
    assert done.stdout == file.read_text()


@pytest.mark.parametrize("command", LOOKS)
def test_json_and_yaml_are_the_protos_own(command: str, api: Api, ctl: Ctl) -> None:
    found = ctl(command, "-o", "json")
    assert found.exit_code == 0, found.stderr
    message = ParseDict(json.loads(found.stdout), LOOKS[command]())
    assert message.ByteSize() > 0
    assert set(json.loads(found.stdout)) >= {
        field.json_name for field in message.DESCRIPTOR.fields if not field.has_presence
    }, "fields that are not set are there too"
    call = api.asked[-1][0]
    assert MessageToDict(message) == MessageToDict(api.answers[call])
    assert yaml.safe_load(ctl(command, "--output", "yaml").stdout) == json.loads(found.stdout)


@pytest.mark.parametrize("command", WRITES)
def test_what_is_written_is_what_was_typed(command: str, api: Api, ctl: Ctl) -> None:
    done = ctl(*command.split())
    assert done.exit_code == 0, done.stderr
    call, request = WRITES[command]
    [(asked, message, _)] = api.asked
    assert asked == call
    assert MessageToDict(message) == yaml.safe_load(request)
    assert done.stdout.startswith(("mesh demo, mode auto", "decision 17, "))
    assert json.loads(ctl(*command.split(), "-o", "json").stdout)["name"].startswith("meshes/demo")


def test_what_holds_the_mesh_is_said_first(api: Api, ctl: Ctl) -> None:
    api.answers["GetMesh"] = mesh(
        mode=pb.MODE_APPROVE,
        stopped="held: 3 rollbacks; `ctl resume` ends it",
        pending_decision="meshes/demo/decisions/17",
        latest_decision=decision(
            action=pb.Decision.ACTION_AWAIT, check=pb.Check(why="accepted: +1.0%")
        ),
        controls=pb.Controls(
            mode=pb.MODE_APPROVE,
            routes={"search": pb.MODE_OBSERVE},
            clusters={"a": pb.MODE_OBSERVE},
            pins={"shop": pb.Weights(weights={"a": 0.7, "b": 0.3})},
            promoted=[pb.RouteCluster(route="shop", cluster="v2")],
            overrides={"max_step": 0.05},
        ),
    )
    lines = ctl("status").stdout.splitlines()
    assert lines[:9] == [
        "mesh demo, mode approve, held: 3 rollbacks; `ctl resume` ends it",
        "decision 17 waits: `ctl explain 17`, then `ctl approve 17` or `ctl reject 17`",
        "route search: mode observe",
        "cluster a: mode observe",
        "route shop: pinned to a 70.0%, b 30.0%",
        "route shop: v2 promoted",
        "policy max_step: 0.05 (not as in the settings)",
        "2 Envoys connected; limits are even: no shares are known",
        "decision 17, 2026-11-18T11:07:31Z: await: predicted 12% better",
    ]
    assert lines[9] == "check: accepted: +1.0%"


def test_policy_without_settings_shows_what_was_changed(api: Api, ctl: Ctl) -> None:
    api.answers["GetMesh"] = mesh(controls=pb.Controls(overrides={"max_step": 0.05}))
    assert "policy max_step: 0.05" in ctl("policy").stdout
    assert [call for call, *_ in api.asked] == ["GetMesh"]


def test_explain_takes_a_number_or_which(api: Api, ctl: Ctl) -> None:
    for typed, asked in (("17", "17"), ("0", "latest"), ("pending", "pending")):
        assert ctl("explain", typed).exit_code == 0
        assert api.last.name == f"meshes/-/decisions/{asked}"


def test_whatif_passes_on_what_was_typed(api: Api, ctl: Ctl) -> None:
    typed = "--demand shop=300 --demand search=20 --scale 1.5 --without b --without c"
    done = ctl("whatif", *typed.split(), "--capacity", "a=50%")
    assert done.exit_code == 0, done.stderr
    assert MessageToDict(api.last) == {
        "name": "meshes/-",
        "demands": {"shop": 300.0, "search": 20.0},
        "scale": 1.5,
        "without": ["b", "c"],
        "capacities": {"a": 0.5},
    }


def test_lists_are_fetched_page_after_page(api: Api, ctl: Ctl) -> None:
    first = reads.ListDecisionsResponse(decisions=[decision(9), decision(8)], next_page_token="t")
    last = reads.ListDecisionsResponse(decisions=[decision(7)])
    api.answers["ListDecisions"] = lambda request: last if request.page_token else first
    listed = json.loads(ctl("decisions", "-n", 3, "-o", "json").stdout)
    assert [one["number"] for one in listed["decisions"]] == ["9", "8", "7"]
    assert [one.page_size for _, one, _ in api.asked] == [3, 1]
    assert {one.view for _, one, _ in api.asked} == {reads.DECISION_VIEW_FULL}


def test_many_routes_leave_the_table_readable(api: Api, ctl: Ctl) -> None:
    many = [pb.RouteWeights(route=f"r{i}", weights={"a": 1.0}) for i in range(40)]
    api.answers["GetMesh"] = mesh(plan_in_force=pb.Plan(routes=many))
    lines = ctl("status").stdout.splitlines()
    assert max(map(len, lines)) < 110


def test_names_may_be_anything_and_command_no_terminal(api: Api, ctl: Ctl) -> None:
    [node] = nodes()
    node.id = "[red]\x1b[2J\x9b2J\n\\u001b[/]"
    api.answers["ListNodes"] = reads.ListNodesResponse(nodes=[node])
    shown = ctl("nodes").stdout
    assert "[red]�[2J�2J" in shown
    assert "\\u001b[/]" in shown
    assert not {c for c in shown if not c.isprintable()} - {"\n"}
    [same] = json.loads(ctl("nodes", "-o", "json").stdout)["nodes"]
    assert same["id"] == node.id, "programs get it as it is"


def test_a_plan_shows_what_would_change(ctl: Ctl, api: Api) -> None:
    api.answers["GetDecision"] = decision(plan=plan(0.5, 64), proposed=plan(0.7, 128))
    rows = [line.split() for line in ctl("explain").stdout.splitlines()]
    assert ["shop", "a", "70.00%", "50.00%"] in rows
    assert ["max_requests", "a", "128", "64"] in rows
