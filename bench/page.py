"""How smooth the live page is, by the number of clusters.

    python -m bench.page [--clusters 7,50,500,2000] [--seconds 6] [--results FOLDER]

A real Chromium shows the whole mesh while a pointer goes over it and every half second a new view
comes in, each of whose changes is moved to over 0.4 s. Noted are the intervals between two frames,
beside those of an empty page in the same browser, the time that drawing takes, and how long the
server takes to make a view. There is no screen and no GPU: Chromium draws in software.
Writes every single figure to page.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog
from playwright.async_api import Page

from eigenmesh.web.view import view
from tests.web.browser import chromium
from tests.web.stage import SHOP, Stage, large, serving

RESULTS = Path(__file__).resolve().parent / "results"

FRAMES = """seconds => new Promise((done) => {
    const found = [];
    const began = performance.now();
    let last = null;
    const frame = (now) => {
        if (last !== null) found.push(now - last);
        last = now;
        if (performance.now() - began < seconds * 1000) requestAnimationFrame(frame);
        else done(found);
    };
    requestAnimationFrame(frame);
})"""


async def play(stage: Stage, page: Page, seconds: float) -> None:
    """New views, and a pointer that goes over the graph."""
    box = await page.locator("#graph").bounding_box()
    assert box is not None
    began, at = time.perf_counter(), 0
    while (gone := time.perf_counter() - began) < seconds:
        if gone > 0.5 * at:
            at += 1
            await stage.look()
        part = gone / seconds
        x = box["x"] + box["width"] * (0.1 + 0.8 * (5.0 * part % 1.0))
        await page.mouse.move(x, box["y"] + min(box["height"], 700.0) * part)
        await asyncio.sleep(0.02)


def served(stage: Stage) -> list[float]:
    """Seconds to make a view and write it down."""
    took = []
    for _ in range(10):
        began = time.perf_counter()
        json.dumps(view(stage.subject, stage.loop.plan, 1))
        took.append(time.perf_counter() - began)
    return took


async def measure(clusters: int, seconds: float, folder: Path) -> dict[str, Any]:
    scene = SHOP if clusters == len(SHOP.curves) else large(clusters)
    async with serving(folder, scene, ticks=0) as stage, chromium() as browser:
        await stage.look()
        empty = await browser.new_page()
        idle = await empty.evaluate(FRAMES, min(seconds, 3.0))
        await empty.close()
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        await page.goto(stage.url)
        await page.locator("#clusters tr").first.wait_for()
        await page.locator("#route").select_option("")
        await page.evaluate("eigenmesh.graph.frames.length = 0")
        frames, _ = await asyncio.gather(page.evaluate(FRAMES, seconds), play(stage, page, seconds))
        return {
            "clusters": clusters,
            "frames": frames,
            "empty page": idle,
            "drawing": await page.evaluate("eigenmesh.graph.frames"),
            "elements": await page.evaluate("document.querySelectorAll('*').length"),
            "view bytes": len(json.dumps(view(stage.subject, stage.loop.plan, 1))),
            "view seconds": served(stage),
        }


def summary(found: dict[str, Any]) -> str:
    def at(values: list[float], q: float) -> float:
        return sorted(values)[min(len(values) - 1, int(q * len(values)))] if values else 0.0

    frames, idle, drawing = (
        ", ".join(f"{at(found[what], q):.1f}" for q in (0.5, 0.95, 1.0))
        for what in ("frames", "empty page", "drawing")
    )
    took = 1000.0 * statistics.median(found["view seconds"])
    return (
        f"{found['clusters']:>5} clusters, ms (median, 95%, worst): frames {frames}; "
        f"of an empty page {idle}; drawing {drawing}. View: {found['view bytes'] / 1000:.0f} kB "
        f"in {took:.1f} ms. {found['elements']} elements"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", default="7,50,500,2000")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    results = []
    for clusters in map(int, options.clusters.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            results.append(await measure(clusters, options.seconds, Path(folder)))
        print(summary(results[-1]), flush=True)
    document = {"cpus": os.cpu_count(), "meshes": results}
    (options.results / "page.json").write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
