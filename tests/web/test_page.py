"""The page's files, events, calls and rules, by HTTP alone."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.mesh import Topology
from eigenmesh.web.history import History, figure
from eigenmesh.web.page import HEADERS

from .stage import SHOP, Stage, serving

READER, WRITER = "reader-secret-0123456789", "writer-secret-0123456789"
OWN = {"X-Eigenmesh": "1"}


def tokens(folder: Path) -> list[dict[str, Any]]:
    (folder / "reader").write_text(f"{READER}\n")
    (folder / "writer").write_text(f"{WRITER}\n")
    return [
        {"name": "board", "role": "read", "file": str(folder / "reader")},
        {"name": "ann", "role": "write", "file": str(folder / "writer")},
    ]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with serving(tmp_path) as stage:
        yield stage


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Stage]:
    async with serving(tmp_path, ticks=1, tokens=tokens(tmp_path)) as stage:
        yield stage


async def call(
    stage: Stage, method: str, body: Any = None, /, **headers: str
) -> tuple[int, dict[str, Any]]:
    asked = {name.replace("_", "-"): value for name, value in headers.items()} or OWN
    async with ClientSession(stage.url) as session:
        sent = session.post(f"/api/call/{method}", json=body or {"name": "meshes/-"}, headers=asked)
        async with sent as answer:
            return answer.status, await answer.json()


async def news(session: ClientSession, count: int) -> AsyncIterator[dict[str, Any]]:
    """So many views."""
    async with session.get("/api/events") as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))
                count -= 1
                if not count:
                    return


class Inline(HTMLParser):
    """Finds what the page's Content-Security-Policy would refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [name for name in names if name == "style" or name.startswith("on")]


def test_the_files_hold_nothing_inline_and_nothing_from_elsewhere() -> None:
    for file in files("eigenmesh.web").joinpath("static").iterdir():
        text = file.read_text()
        urls = set(re.findall(r"https?://[^\s\"')]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not urls, file.name
        for markup in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert markup not in text, file.name
        if file.name.endswith(".html"):
            parser = Inline()
            parser.feed(text)
            assert not parser.found


async def test_files_and_their_headers(stage: Stage) -> None:
    async with ClientSession(stage.url) as session:
        for path, kind in (
            ("/", "text/html"),
            ("/static/app.js", "javascript"),
            ("/static/style.css", "text/css"),
            ("/static/icon.svg", "image/svg+xml"),
        ):
            async with session.get(path) as answer:
                assert answer.status == 200
                assert kind in answer.content_type
                assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
                tag = answer.headers["ETag"]
            async with session.get(path, headers={"If-None-Match": tag}) as answer:
                assert answer.status == 304
        for path in ("/static/../page.py", "/static/%2e%2e%2fpage.py", "/static/none.js"):
            async with session.get(path) as answer:
                assert answer.status == 404


async def test_events_tell_the_mesh_and_each_change(stage: Stage) -> None:
    async with ClientSession(stage.url) as session:
        views = news(session, 3)
        first = await anext(views)
        assert first["mesh"] == "shop"
        assert [r["name"] for r in first["routes"]] == [r.name for r in SHOP.topology.routes]
        assert first["decision"]["number"] == 2
        assert first["nodes"] == 2
        by_name = {c["name"]: c for c in first["clusters"]}
        assert by_name["web-a"]["host"] == "rack-1"
        assert by_name["web-a"]["latency"] == pytest.approx(
            stage.loop.latest.observation.clusters["web-a"].mean,  # type: ignore[union-attr]
            rel=1e-5,
        )
        await stage.tick()
        assert (await anext(views))["decision"]["number"] == 3
        await stage.operations.pause("lunch", by="ann")
        assert (await anext(views))["stopped"] == "paused: lunch"


async def test_who_comes_back_is_shown_nothing_old(stage: Stage) -> None:
    async with ClientSession(stage.url) as session:
        async for view in news(session, 1):
            assert view["decision"]["number"] == 2
        while stage.watchers():
            await asyncio.sleep(0.01)
        await stage.tick()
        async for view in news(session, 1):
            assert view["decision"]["number"] == 3


async def test_a_call_is_the_grpc_call(stage: Stage) -> None:
    assert await call(stage, "Pause", {"name": "meshes/-", "why": "lunch"}) == (
        200,
        (await call(stage, "GetMesh"))[1],
    )
    assert stage.operations.controls.paused == "lunch"
    assert stage.audit() == [("local", "Pause")]
    assert stage.calls["Pause", "OK"] == 1
    status, found = await call(stage, "ListDecisions", {"parent": "meshes/-", "page_size": 2})
    assert status == 200
    assert [d["number"] for d in found["decisions"]] == ["2", "1"]


@pytest.mark.parametrize(
    ("method", "body", "status", "said"),
    [
        ("Pause", {"name": "meshes/other"}, 404, "steers"),
        ("Pause", {"name": "routes/x"}, 400, "name"),
        ("Pause", {"nam": "meshes/-"}, 400, "request"),
        ("Approve", {"name": "meshes/-/decisions/pending"}, 400, "no plan waits"),
        ("RollBack", {"name": "meshes/-/decisions/99"}, 404, "not in the journal"),
        ("WatchMesh", {"name": "meshes/-"}, 404, "no such call"),
        ("__init__", {"name": "meshes/-"}, 404, "no such call"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_words(
    stage: Stage, method: str, body: dict[str, str], status: int, said: str
) -> None:
    found = await call(stage, method, body)
    assert found[0] == status
    assert said in found[1]["message"]
    assert not stage.operations.controls.paused


async def test_a_body_that_is_too_long_is_not_read(stage: Stage) -> None:
    async with ClientSession(stage.url) as session:
        long = b"x" * 100_000
        async with session.post("/api/call/Pause", data=long, headers=OWN) as answer:
            assert answer.status == 413


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Accept": "*/*"}, "X-Eigenmesh"),
        ({**OWN, "Origin": "http://evil.example"}, "another site"),
        ({**OWN, "Origin": "null"}, "another site"),
        ({**OWN, "Origin": "http://127.0.0.1:1"}, "another site"),
        ({**OWN, "Host": "evil.example"}, "by its address"),
        ({**OWN, "Host": "evil.example", "Origin": "http://evil.example"}, "by its address"),
    ],
    ids=["form", "origin", "null", "other port", "rebound", "rebound from its own page"],
)
async def test_no_other_site_can_write(stage: Stage, headers: dict[str, str], said: str) -> None:
    async with ClientSession(stage.url) as session:
        body = '{"name": "meshes/-"}'
        async with session.post("/api/call/Pause", data=body, headers=headers) as answer:
            assert answer.status == 403
            assert said in (await answer.json())["message"]
    assert not stage.operations.controls.paused
    assert stage.audit() == []


@pytest.mark.parametrize("path", ["/api/events", "/api/history?route=search"])
async def test_no_name_that_was_pointed_here_can_read(stage: Stage, path: str) -> None:
    async with ClientSession(stage.url) as session:
        async with session.get(path, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        for host in (f"localhost:{stage.port}", f"[::1]:{stage.port}"):
            async with session.get(path, headers={"Host": host}) as answer:
                assert answer.status == 200


async def test_the_page_itself_may_write(stage: Stage) -> None:
    status, _ = await call(stage, "Pause", None, X_Eigenmesh="1", Origin=stage.url)
    assert status == 200
    assert stage.operations.controls.paused


@pytest.mark.parametrize(
    ("token", "reads", "writes"),
    [(READER, 200, 403), (WRITER, 200, 200), ("wrong", 401, 401), (None, 401, 401)],
    ids=["reader", "writer", "wrong", "none"],
)
async def test_the_roles_of_the_api_hold(
    guarded: Stage, token: str | None, reads: int, writes: int
) -> None:
    headers = {**OWN, "Host": "mesh.example"} if token else dict(OWN)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with ClientSession(guarded.url, headers=headers) as session:
        body = {"name": "meshes/-"}
        async with session.post("/api/call/GetMesh", json=body) as answer:
            assert answer.status == reads
        async with session.get("/api/events") as answer:
            assert answer.status == reads
        async with session.get("/api/history", params={"route": "search"}) as answer:
            assert answer.status == reads
        async with session.post("/api/call/Pause", json=body) as answer:
            assert answer.status == writes
    assert guarded.audit() == ([("ann", "Pause")] if writes == 200 else [])


async def test_a_session_of_a_token(guarded: Stage) -> None:
    body = {"name": "meshes/-"}
    async with ClientSession(guarded.url) as session:
        async with session.get("/api/session") as answer:
            found = await answer.json()
            assert (found["who"], found["tokens"]) == ("", True)
        wrongs: list[Any] = [{"token": "wrong"}, {"token": 1}, []]
        for wrong in wrongs:
            async with session.post("/api/session", json=wrong, headers=OWN) as answer:
                assert answer.status in (400, 401)
        async with session.post("/api/session", json={"token": WRITER}) as answer:
            assert answer.status == 403  # another site must not sign anybody in
        async with session.post("/api/session", json={"token": WRITER}, headers=OWN) as answer:
            assert answer.status == 204
            cookie = answer.headers["Set-Cookie"]
        assert WRITER not in cookie
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        # aiohttp's jar keeps no cookies of addresses.
        shown = {**OWN, "Cookie": cookie.partition(";")[0]}
        async with session.get("/api/session", headers=shown) as answer:
            found = await answer.json()
            assert (found["who"], found["role"]) == ("ann", "write")
        async with session.post("/api/call/Pause", json=body, headers=shown) as answer:
            assert answer.status == 200
        async with session.delete("/api/session", headers=shown) as answer:
            assert answer.status == 204
        async with session.post("/api/call/Resume", json=body, headers=shown) as answer:
            assert answer.status == 401
    assert guarded.audit() == [("ann", "Pause")]


async def test_a_token_that_is_taken_away_ends_its_streams(guarded: Stage, tmp_path: Path) -> None:
    async with ClientSession(guarded.url, headers={"Authorization": f"Bearer {READER}"}) as session:
        views = news(session, 9)
        await anext(views)
        (tmp_path / "reader").write_text("another-secret-0123456789\n")
        await guarded.tick()
        assert [view async for view in views] == []


async def test_a_session_ends_with_its_token(guarded: Stage, tmp_path: Path) -> None:
    async with ClientSession(guarded.url) as session:
        async with session.post("/api/session", json={"token": READER}, headers=OWN) as answer:
            shown = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
        async with session.get("/api/session", headers=shown) as answer:
            assert (await answer.json())["who"] == "board"
        (tmp_path / "reader").write_text("another-secret-0123456789\n")
        async with session.get("/api/session", headers=shown) as answer:
            assert (await answer.json())["who"] == ""
        async with session.get("/api/events", headers=shown) as answer:
            assert answer.status == 401


async def test_who_can_reach_the_page_counts_not_who_can_reach_the_api(tmp_path: Path) -> None:
    """On all addresses, with an API on loopback that asks for no token."""
    async with serving(tmp_path, ticks=0, listen="0.0.0.0:0") as stage:
        assert (await call(stage, "GetMesh"))[0] == 401
        assert (await call(stage, "Pause"))[0] == 401
    async with serving(tmp_path, ticks=0, listen="0.0.0.0:0", anonymous="read") as stage:
        assert (await call(stage, "GetMesh"))[0] == 200
        assert (await call(stage, "Pause"))[0] == 403


async def test_history_of_a_route(stage: Stage) -> None:
    await asyncio.sleep(0.3)  # it is looked at four times a second
    await stage.tick()
    await asyncio.sleep(0.3)
    async with ClientSession(stage.url) as session:
        async with session.get("/api/history", params={"route": "search"}) as answer:
            found = await answer.json()
        async with session.get("/api/history", params={"route": "none"}) as answer:
            assert answer.status == 404
    assert list(found["clusters"]) == ["search-a", "search-b", "web-spot"]
    assert found["times"][-1] == stage.clock[0]
    for name, series in found["clusters"].items():
        in_force = stage.loop.plan.weights["search"][name]
        assert series["weight"][-1] == pytest.approx(in_force, rel=1e-5)
        assert len(series["latency"]) == len(found["times"])


@given(st.floats())
def test_a_figure_is_json(value: float) -> None:
    found = figure(value)
    json.dumps(found, allow_nan=False)
    if found is not None:
        assert found == pytest.approx(value, rel=1e-5)


async def test_history_is_bounded_and_begins_anew_with_another_mesh(stage: Stage) -> None:
    history, latest = History(), stage.loop.latest
    assert latest is not None
    for _ in range(300):
        history.add(latest, stage.loop.plan, SHOP.topology, None)
    _, checkout, search = SHOP.topology.routes
    assert len(history.of(search)["times"]) == 240
    fewer = Topology(SHOP.topology.clusters, SHOP.topology.routes[:2])
    history.add(latest, stage.loop.plan, fewer, 0.99)
    assert history.of(search)["times"] == []
    assert len(history.of(checkout)["times"]) == 1
