"""`ctl watch`: live on a real terminal, a line for each decision in a pipe."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable

import grpc
import pytest
import yaml
from google.protobuf.json_format import ParseDict
from rich.console import Console
from typer.testing import Result

from eigenmesh.cli.ctl.views.live import Watched, live_view, shares
from eigenmesh.v1 import mesh_pb2 as pb
from tests.cli.api import TIME, Api, Feed, decision, mesh
from tests.cli.terminal import WITHIN, terminal


def test_it_shows_news_as_they_come_and_quits_on_q(api: Api) -> None:
    feed = Feed(mesh())
    api.answers["WatchMesh"] = feed
    with terminal("ctl", "watch", "-a", api.address) as screen:
        screen.until(r"eigenmesh demo +AUTO")
        screen.until(r"a +- +50.0% +30.0% +30.0% +150 +12.5 +80.0 +60 +64 +400 ±5%")
        screen.until(r"17 +\d+ . ago +push +predicted 12% better")
        assert not screen.echoes, "keys are not shown over the picture"

        feed.put(mesh(mode=pb.MODE_APPROVE, stopped="paused: load test"))
        screen.until(r"eigenmesh demo +APPROVE")
        screen.until("PAUSED: load test")

        feed.put(None)
        screen.until("no news: Eigenmesh has stopped")
        feed.put(mesh(pending_decision="meshes/demo/decisions/17"))
        screen.until(r"decision 17 waits for `ctl approve 17`")
        assert "no news" not in screen.frame

        screen.type("q")
        assert screen.wait() == 0
        assert screen.echoes
        assert screen.text.count("\x1b[?1049h") == screen.text.count("\x1b[?1049l") == 1


def test_ctrl_c_ends_it_and_leaves_the_terminal_as_it_was(api: Api) -> None:
    api.answers["WatchMesh"] = Feed(mesh())
    with terminal("ctl", "watch", "-a", api.address) as screen:
        screen.until("AUTO")
        screen.type("\x03")
        assert screen.wait() == 0
        assert screen.echoes
        assert "Traceback" not in screen.text


@pytest.mark.parametrize(
    ("address", "status", "said"), [("127.0.0.1:1", 3, "eigenmesh run"), ("", 4, "who are you")]
)
def test_it_takes_the_screen_only_when_there_is_something_to_show(
    address: str, status: int, said: str, api: Api
) -> None:
    api.refusals["WatchMesh"] = (grpc.StatusCode.UNAUTHENTICATED, "who are you?", None)
    with terminal("ctl", "watch", "-a", address or api.address) as screen:
        screen.until(said)
        assert screen.wait() == status
        assert "\x1b[?1049h" not in screen.text


def test_colours_are_a_matter_of_the_terminal_and_of_no_color(api: Api) -> None:
    with terminal("ctl", "decisions", "-a", api.address) as screen:
        screen.until("predicted 12% better")
        assert screen.wait() == 0
        assert "\x1b[32mpush" in screen.text
    with terminal("ctl", "decisions", "-a", api.address, env={"NO_COLOR": "1"}) as screen:
        screen.until("predicted 12% better")
        assert screen.wait() == 0
        assert "\x1b[3" not in screen.text


def test_what_undoes_much_is_asked_first_on_a_terminal(api: Api) -> None:
    with terminal("ctl", "rollback", "12", "-a", api.address) as screen:
        screen.until(r"shop +a +50.00% +50.00%")
        screen.until(r"Go to the plan of decision 12\? \[y/N\]")
        screen.type("n\n")
        assert screen.wait() == 1
    with terminal("ctl", "restore", "-a", api.address) as screen:
        screen.until(r"Go to the weights and limits of your own configuration\? \[y/N\]")
        assert {call for call, *_ in api.asked} <= {"GetMesh", "GetDecision"}
        screen.type("y\n")
        assert screen.wait() == 0
    with terminal("ctl", "rollback", "12", "--yes", "-a", api.address) as screen:
        assert screen.wait() == 0
    assert [call for call, *_ in api.asked][-2:] == ["Restore", "RollBack"]


def test_a_pipe_gets_a_line_for_each_decision_without_any_code(api: Api) -> None:
    feed = Feed(decision(17), decision(18, why="two\nlines \x1b[2J"))
    api.answers["WatchDecisions"] = feed
    process = subprocess.Popen(
        [sys.executable, "-m", "eigenmesh", "ctl", "watch", "-a", api.address],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "17  2026-11-18T11:07:31Z  push  predicted 12% better\n"
        # Each comes at once, though the stream goes on.
        assert process.stdout.readline() == "18  2026-11-18T11:07:34Z  push  two lines �[2J\n"
        feed.put(None)
        assert process.wait(WITHIN) == 3, "an Eigenmesh that has gone is told from a quiet one"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_programs_get_a_document_for_each(form: str, api: Api, ctl: Callable[..., Result]) -> None:
    api.answers["WatchDecisions"] = Feed(decision(17), decision(18), None)
    text = ctl("watch", "-o", form).stdout
    found = (
        [json.loads(line) for line in text.splitlines()]
        if form == "json"
        else list(yaml.safe_load_all(text))
    )
    assert [ParseDict(one, pb.Decision()) for one in found] == [decision(17), decision(18)]


def test_shares_are_those_of_all_requests() -> None:
    wanted, seen = shares(mesh())
    # 300/s go half to a and half to b, 200/s a quarter to b and the rest to c.
    assert wanted == pytest.approx({"a": 0.3, "b": 0.4, "c": 0.3})
    assert seen == pytest.approx({"a": 0.3, "b": 0.4, "c": 0.3})
    assert shares(pb.Mesh()) == ({}, {})


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_no_line_is_wider_than_the_screen(columns: int) -> None:
    console = Console(width=columns, record=True, file=io.StringIO())
    long = decision(why="because " * 60)
    seen = Watched(mesh(stopped="held: " + "x" * 90), [long] * 3)
    console.print(live_view(seen, TIME, rows=24))
    assert max(map(len, console.export_text().splitlines())) <= columns


def test_many_clusters_leave_room_for_the_decisions() -> None:
    names = [f"c{i:03}" for i in range(300)]
    many = mesh(
        plan_in_force=pb.Plan(
            routes=[pb.RouteWeights(route="r", weights=dict.fromkeys(names, 1.0))]
        )
    )
    many.latest_decision.clusters.append(pb.ClusterState(cluster="c217", load=9.0))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(live_view(Watched(many, [decision()]), TIME, rows=24))
    lines = console.export_text().splitlines()
    [last] = [number for number, line in enumerate(lines) if "predicted 12% better" in line]
    assert last < 24
    assert any(line.startswith("c217") for line in lines), "the busiest"
    assert "and 292 that are less busy: `ctl clusters`" in lines
