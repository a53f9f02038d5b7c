"""A page in the real Chromium, which must ask nobody else for anything and complain of nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str:
    """Of Chromium. Raises FileNotFoundError."""
    for name in NAMES:
        if (found := shutil.which(name)) is not None:
            return found
    raise FileNotFoundError("install Chromium: the Debian package chromium, or `make chromium`")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        # Root has no sandbox in Chromium.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await driver.chromium.launch(executable_path=executable(), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(url: str, *, complaints: bool = False, **settings: Any) -> AsyncIterator[Page]:
    """settings: of the browser's context. complaints: it may have some, of what the test does."""
    async with chromium() as browser:
        context = await browser.new_context(**settings)
        page = await context.new_page()
        page.set_default_timeout(20_000)
        heard: list[str] = []
        page.on(
            "console", lambda m: heard.append(m.text) if m.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on(
            "request",
            lambda r: None if r.url.startswith(f"{url}/") else heard.append(f"asked for {r.url}"),
        )
        await page.goto(f"{url}/")
        yield page
        assert complaints or not heard, heard
