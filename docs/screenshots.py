"""Takes the pictures of the live page: `make screenshots`.

A real loop steers simulated queues, with the circuits beside the classical solvers, until after one
cluster has lost a third of its capacity.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import structlog
from playwright.async_api import Browser

from eigenmesh.guard.controls import Mode
from eigenmesh.mesh import Action
from tests.web.browser import chromium
from tests.web.stage import SHOP, Stage, serving

PICTURES = Path(__file__).parent / "pictures"
TICKS = 60
BREAKS = 30
"""Of the ticks, the one at which the cluster gets worse."""


async def live(stage: Stage) -> None:
    """Ends when traffic is being moved away from the worse cluster."""
    for tick in range(TICKS):
        stage.upstreams.broken = tick >= BREAKS
        await stage.tick()
        await asyncio.sleep(0.3)  # the page looks four times a second
        assert stage.loop.latest is not None
        if tick > BREAKS and stage.loop.latest.action is Action.PUSH:
            return


async def take(browser: Browser, stage: Stage, name: str, width: int, height: int) -> None:
    page = await browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme="dark" if name == "phone" else "light",
        device_scale_factor=1,
    )
    await page.goto(stage.url)
    await page.locator("#times-legend li").first.wait_for()
    await page.wait_for_timeout(800)
    await page.screenshot(path=PICTURES / f"page-{name}.png")
    await page.close()


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    scene = replace(SHOP, solver="best", worse={"web-a": 0.65})
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), scene, ticks=0) as stage, chromium() as browser:
            await live(stage)
            await stage.operations.set_mode(Mode.AUTO, by="ann")
            await take(browser, stage, "desktop", 1280, 1130)
            await take(browser, stage, "phone", 390, 1180)
    for picture in sorted(PICTURES.glob("page-*.png")):
        print(f"{picture.name}: {picture.stat().st_size // 1000} kB")


if __name__ == "__main__":
    asyncio.run(main())
