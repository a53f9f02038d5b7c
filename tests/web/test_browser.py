"""The page in a real Chromium, before a real loop, journal and solvers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from eigenmesh.guard.controls import Mode
from eigenmesh.mesh import Action, Cluster, LatencyCurve, Route, Topology

from .browser import opened
from .stage import SHOP, Scene, Stage, large, serving
from .test_page import READER, WRITER, tokens

expect.set_options(timeout=20_000)

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}


async def painted(page: Page, canvas: str, least: int = 8) -> None:
    """Waits until so many colours are on a canvas."""
    async with asyncio.timeout(20):
        while await page.evaluate(COLOURS, canvas) <= least:
            await asyncio.sleep(0.05)


COLOURS = """id => {
    const c = document.getElementById(id);
    if (!c.width || !c.height) return 0;
    const all = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    return new Set(new Uint32Array(all.buffer)).size;
}"""


async def until(what: Any) -> None:
    """Waits until it is so; the event loop of the server is this one."""
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.02)


async def answer(page: Page, button: str, why: str = "") -> None:
    """Says yes in the dialog."""
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_be_visible()
    if why:
        await dialog.get_by_label("Why").fill(why)
    await dialog.get_by_role("button", name=button, exact=True).click()
    await expect(dialog).to_be_hidden()


async def test_it_shows_the_mesh_and_goes_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as stage, opened(stage.url, viewport=DESK) as page:
        await expect(page.locator("#link")).to_contain_text("live · #2")
        await expect(page.locator("#mesh")).to_have_text("shop")
        await expect(page.locator("#clusters tr")).to_have_count(7)
        await expect(page.locator("#log li")).to_have_count(2)
        await expect(page.locator("#decision .number")).to_have_text("#2")
        for canvas in ("graph", "latency", "weights"):
            await painted(page, canvas)
        label = await page.locator("#graph").get_attribute("aria-label")
        assert label is not None
        assert "3 routes to 7 clusters" in label
        await stage.tick()
        await expect(page.locator("#link")).to_contain_text("live · #3")
        await expect(page.locator("#decision .number")).to_have_text("#3")
        await expect(page.locator("#log li").first).to_contain_text("#3")
        assert stage.loop.latest is not None
        await expect(page.locator("#decision .why")).to_have_text(stage.loop.latest.why)
        # Details of an old one come from the journal.
        await page.locator("#log summary").last.click()
        await expect(page.locator("#log .inside").last).to_contain_text("slsqp")
        # One route large.
        await page.locator("#route").select_option("checkout")
        await expect(page.locator("#clusters tr")).to_have_count(2)
        await expect(page.locator("#times-legend li")).to_have_count(2)
        await page.locator("#find").fill("cart-b")
        await expect(page.locator("#clusters tr")).to_have_count(1)


async def test_every_button_does_what_it_says_and_is_in_the_audit(tmp_path: Path) -> None:
    async with serving(tmp_path) as stage, opened(stage.url, viewport=DESK) as page:
        controls = stage.operations

        async def press(name: str, yes: str, why: str = "") -> None:
            await page.get_by_role("button", name=name, exact=True).click()
            await answer(page, yes, why)

        await press("Pause", "Pause", "lunch")
        await expect(page.locator("#status")).to_contain_text("paused: lunch")
        assert controls.controls.paused == "lunch"
        await press("Resume", "Resume")
        await expect(page.locator("#status")).to_contain_text("Steering")
        assert not controls.controls.paused

        await page.get_by_role("radio", name="Ask first").click()
        await answer(page, "Set the mode")
        await until(lambda: controls.controls.mode is Mode.APPROVE)
        await expect(page.get_by_role("radio", name="Ask first")).to_be_checked()
        stage.upstreams.broken = True
        await until_pending(stage)
        number = stage.operations.pending.number  # type: ignore[union-attr]
        await expect(page.locator("#pending")).to_contain_text(f"#{number} waits for a yes")
        await press("Reject", "Reject", "not today")
        await until(lambda: stage.operations.pending is None)
        await expect(page.locator("#pending")).to_be_hidden()
        await controls.set_mode(Mode.AUTO, by="test")
        await controls.set_mode(Mode.APPROVE, by="test")
        stage.clock[0] += 3600.0
        stage.loop.approvals.shift(-3600.0)
        await until_pending(stage)
        before = stage.loop.plan
        await press("Approve", "Approve")
        await until(lambda: stage.loop.latest and stage.loop.latest.action is Action.PUSH)
        assert stage.loop.plan != before
        assert stage.operations.pending is None

        await page.locator("#log summary").last.click()
        await press("Roll back to the plan of #1", "Roll back")
        await until(lambda: controls.controls.target is not None)
        await expect(page.locator("#status")).to_contain_text("rolled back to the plan of")
        await press("Resume", "Resume")
        await until(lambda: not controls.controls.paused)
        await press("Restore originals", "Restore")
        await until(lambda: controls.controls.target == controls.original)

        done = [action for who, action in stage.audit() if who == "local"]
        assert done == [
            *("Pause", "Resume", "SetMode", "Reject", "Approve", "RollBack", "Resume", "Restore"),
        ]
        await expect(page.locator("#audit li").first).to_contain_text("local Restore")
        # What is not said yes to is not asked.
        await page.get_by_role("button", name="Resume", exact=True).click()
        await page.get_by_role("button", name="Cancel").click()
        assert len(stage.audit()) == len(done) + 2
        assert controls.controls.paused


async def until_pending(stage: Stage) -> None:
    for _ in range(12):
        await stage.tick()
        if stage.operations.pending is not None:
            return
    raise AssertionError(stage.loop.latest)


async def test_what_is_refused_is_said_and_on_record(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, mode=Mode.APPROVE) as stage,
        opened(stage.url, complaints=True) as page,
    ):
        await until_pending(stage)
        await page.get_by_role("button", name="Approve", exact=True).click()
        await stage.operations.pause("first", by="ann")  # meanwhile
        await page.get_by_role("dialog").get_by_role("button", name="Approve").click()
        await expect(page.locator("#toasts")).to_contain_text("nothing is pushed now")
        await expect(page.locator("#audit li").first).to_contain_text("refused")
    assert stage.loop.latest is not None
    assert stage.loop.latest.action is not Action.PUSH


async def test_the_keyboard_reaches_and_does_everything(tmp_path: Path) -> None:
    async with serving(tmp_path) as stage, opened(stage.url, viewport=DESK) as page:
        await expect(page.locator("#link")).to_contain_text("live")
        reached: list[str] = []
        for _ in range(60):
            await page.keyboard.press("Tab")
            found = await page.evaluate(
                """() => {
                    const e = document.activeElement;
                    if (e === document.body) return null;
                    const shown = e.matches('input[type=radio]') ? e.nextElementSibling : e;
                    const style = getComputedStyle(shown);
                    return {id: e.id || e.className || e.name || e.tagName,
                            ring: style.outlineStyle !== 'none' && style.outlineWidth !== '0px'};
                }"""
            )
            if found is None:
                break
            assert found["ring"], found
            reached.append(found["id"])
        wanted = {
            "skip",
            "theme",
            "mode-auto",
            "pause",
            "restore",
            "route",
            "graph",
            "sort",
            "find",
        }
        assert wanted | {"demand", "capacity web-a", "moves", "SUMMARY"} <= set(reached)
        assert reached[0] == "skip"

        # The graph, one box after the other.
        await page.locator("#graph").focus()
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#tip")).to_contain_text("storefront")
        await page.keyboard.press("Enter")
        await expect(page.locator("#route")).to_have_value("storefront")
        await page.keyboard.press("Escape")
        await expect(page.locator("#route")).to_have_value("")

        # A dialog: Escape is no, Enter in the reason is yes.
        await page.locator("#pause").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        assert stage.audit() == []
        await page.locator("#pause").press("Enter")
        await page.keyboard.type("by keys")
        await page.keyboard.press("Enter")
        await expect(page.locator("#status")).to_contain_text("paused: by keys")
        # Who pressed Pause goes on from there.
        await expect(page.locator("#resume")).to_be_focused()
        await page.locator("#mode-auto").press("ArrowLeft")
        await answer(page, "Set the mode")
        await until(lambda: stage.operations.controls.mode is Mode.APPROVE)
        await page.locator("#log summary").first.press("Enter")
        await expect(page.locator("#log .inside").first).to_contain_text("predicted gain")


async def test_what_if_asks_the_solver_and_pushes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as stage, opened(stage.url, viewport=DESK) as page:
        slider = page.get_by_label("Capacity of web-a")
        plan = stage.loop.plan
        await slider.press("Home")
        result = page.locator("#whatif-result")
        await expect(result).to_contain_text("With the plan it would make")
        await expect(result.locator("tr", has_text="web-a")).to_contain_text("gone")
        await expect(page.locator("#whatif .value").nth(1)).to_have_text("gone")
        await page.get_by_role("button", name="As it is now").click()
        await expect(result).to_contain_text("Move a slider")
        assert stage.loop.plan == plan
        assert stage.audit() == []
        assert stage.calls["WhatIf", "OK"] >= 1


async def test_a_reader_sees_and_cannot_ask(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, ticks=1, tokens=tokens(tmp_path)) as stage,
        opened(stage.url, complaints=True) as page,
    ):
        await expect(page.locator("#main")).to_be_hidden()
        await page.get_by_label("Token of the API").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#toasts")).to_contain_text("nobody's")
        await page.get_by_label("Token of the API").fill(READER)
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_have_text("board, may read")
        await expect(page.locator("#link")).to_contain_text("live · #1")
        await expect(page.locator("#controls button")).to_have_count(0)
        await expect(page.get_by_role("radio", name="Ask first")).to_be_disabled()
        await page.locator("#log summary").first.click()
        await expect(page.locator("#log .inside").first).to_contain_text("slsqp")
        await expect(page.locator("#log .inside button")).to_have_count(0)
        # The token of somebody who may.
        await page.get_by_role("button", name="Sign in").first.click()
        await page.get_by_label("Token of the API").fill(WRITER)
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_have_text("ann, may write")
        await page.get_by_role("button", name="Pause", exact=True).click()
        await answer(page, "Pause")
        await until(lambda: stage.audit() == [("ann", "Pause")])
        shown = await page.evaluate("document.cookie + JSON.stringify(localStorage)")
        assert WRITER not in shown  # no script can read what it signs in with
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.locator("#main")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_it_is_readable(tmp_path: Path, scheme: str, size: dict[str, int]) -> None:
    """Nothing is cut off at the side, no text is tiny, and all of it stands out from its ground."""
    async with (
        serving(tmp_path, mode=Mode.APPROVE, ticks=4) as stage,
        opened(stage.url, viewport=size, color_scheme=scheme) as page,
    ):
        await expect(page.locator("#link")).to_contain_text("live")
        await page.locator("#log summary").first.click()
        await expect(page.locator("#log .inside").first).to_contain_text("slsqp")
        found = await page.evaluate(READABLE)
        assert found["wide"] <= size["width"], found
        assert found["few"] > 60  # texts that were looked at
        assert not found["faint"]
        assert not found["tiny"]
        assert not found["narrow"]
        assert found["dark"] is (scheme == "dark")
        if size is PHONE and scheme == "dark":
            await page.get_by_role("button", name="Colours").click()
            assert (await page.evaluate(READABLE))["dark"] is False
            await page.reload()
            assert (await page.evaluate(READABLE))["dark"] is False


READABLE = """() => {
    const parse = (text) => {
        const c = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        c.fillStyle = text; c.fillRect(0, 0, 1, 1);
        return [...c.getImageData(0, 0, 1, 1).data];
    };
    const over = ([r, g, b, a], under) =>
        [r, g, b].map((v, i) => (v * a + under[i] * (255 - a)) / 255).concat(255);
    const ground = (e) => {
        if (!e) return [255, 255, 255, 255];
        const own = parse(getComputedStyle(e).backgroundColor);
        return own[3] === 255 ? own : over(own, ground(e.parentElement));
    };
    const light = (c) => {
        const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = {faint: [], tiny: [], narrow: [], few: 0,
                   wide: document.documentElement.scrollWidth,
                   dark: light(ground(document.body)) < 0.2};
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = walk.nextNode());) {
        const e = node.parentElement;
        if (!node.data.trim() || !e.checkVisibility() || e.closest('.unseen, .skip, svg, noscript'))
            continue;
        found.few++;
        const style = getComputedStyle(e);
        const [a, b] = [light(parse(style.color)), light(ground(e))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        const words = node.data.trim().slice(0, 30);
        if (contrast < 4.5) found.faint.push([words, contrast.toFixed(2), style.color]);
        if (parseFloat(style.fontSize) < 11) found.tiny.push([words, style.fontSize]);
    }
    const least = innerWidth < 600 ? 32 : 24;
    for (const e of document.querySelectorAll('button, select, summary, input[type=range]')) {
        const {height} = e.getBoundingClientRect();
        if (e.checkVisibility() && height < least) found.narrow.push([e.id || e.tagName, height]);
    }
    return found;
}"""


async def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    name = '<img src=x onerror="document.title=1"> & "quotes"'
    clusters = (Cluster(name, host="<b>host</b>"), Cluster("b"))
    scene = Scene(
        Topology(clusters, (Route("<script>alert(1)</script>", (name, "b")),)),
        {name: LatencyCurve(0.01, 300.0), "b": LatencyCurve(0.01, 300.0)},
        {"<script>alert(1)</script>": 100.0},
    )
    async with serving(tmp_path, scene) as stage, opened(stage.url) as page:
        await expect(page.locator("#clusters tr")).to_have_count(2)
        texts = await page.locator("#clusters th b").all_text_contents()
        assert name in texts
        await expect(page).to_have_title("shop · Eigenmesh")
        assert await page.locator("#main img, #main script").count() == 0


async def test_it_comes_back_by_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, ticks=1) as stage, opened(stage.url, complaints=True) as page:
        await expect(page.locator("#link")).to_contain_text("live")
        port = stage.port
        await stage.server.stop()
        await expect(page.locator("#link")).to_contain_text("trying again")
        async with serving(tmp_path / "other", ticks=1, listen=f"127.0.0.1:{port}"):
            await expect(page.locator("#link")).to_contain_text("live")


async def test_the_circuits_are_drawn(tmp_path: Path) -> None:
    scene = replace(SHOP, solver="best")
    async with serving(tmp_path, scene, ticks=2) as stage, opened(stage.url) as page:
        figures = page.locator("#circuit figure")
        await expect(figures).to_have_count(2)
        await expect(figures.first).to_contain_text("born-machine, 2 qubits, simulated on")
        await expect(figures.last).to_contain_text("qaoa")
        assert stage.loop.latest is not None
        [qaoa] = {
            int(c.detail["qubits"])
            for c in stage.loop.latest.candidates
            if c.solver == "qaoa" and "qubits" in c.detail
        }
        assert await figures.last.locator("svg .q-wire").count() == qaoa
        assert await figures.last.locator("svg .q-meter").count() == qaoa


async def test_five_hundred_clusters(tmp_path: Path) -> None:
    """The document stays small whatever the mesh; `bench/page.py` measures the frames."""
    async with (
        serving(tmp_path, large(500), ticks=0) as stage,
        opened(stage.url, viewport=DESK) as page,
    ):
        await stage.look()
        await expect(page.locator("#figures")).to_contain_text("of 500 clusters")
        await expect(page.locator("#route")).not_to_have_value("")
        await page.locator("#route").select_option("")
        await painted(page, "graph", 30)
        await page.get_by_role("button", name="Show 100 of 500").click()
        await expect(page.locator("#clusters tr")).to_have_count(100)
        await stage.look()
        await expect(page.locator("#link")).to_contain_text("#2")
        assert await page.evaluate("document.querySelectorAll('*').length") < 4000
        await page.locator("#find").fill("cluster-499")
        await expect(page.locator("#clusters tr")).to_have_count(1)
        sizes = json.loads(await page.evaluate("JSON.stringify(eigenmesh.graph.size)"))
        assert sizes[1] < 1000
