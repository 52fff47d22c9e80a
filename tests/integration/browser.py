"""A real browser without a window: Debian's Chromium, which reaches no other machine and writes where it is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, async_playwright

from tests.stack.synapse import REPOSITORY

CHROMIUM = "/usr/bin/chromium"
PICTURES = REPOSITORY / "docs" / "pictures"
TAKE_PICTURES = "TOGGLE_PICTURES"
"""Set this environment variable to 1, and the tests write the pictures of the docs anew."""
SWITCHES = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # whatever it would fetch, it cannot
)


class NoBrowser(Exception):
    """There is no Chromium; says how to get it."""


def chromium() -> str:
    """The browser's path.

    Raises:
        NoBrowser: it is not installed.
    """
    if shutil.which(CHROMIUM) is None:
        raise NoBrowser(f"{CHROMIUM} is missing: run ./build.sh test, which installs it, or apt-get install chromium")
    return CHROMIUM


@asynccontextmanager
async def open_page(profile: Path, *, width: int, height: int, scale: float = 1) -> AsyncIterator[Page]:
    """A page of a new browser, whose profile is kept in `profile`; on a failure, failure.png beside it shows it.

    Args:
        width, height: of the page, in CSS pixels.
        scale: device pixels for each of them.
    """
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium(),
            headless=True,
            args=SWITCHES,
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            locale="en-GB",
        )
        page = context.pages[0]
        try:
            yield page
        except BaseException:
            await page.screenshot(path=profile.parent / "failure.png")
            raise
        finally:
            await context.close()


def pictures(otherwise: Path) -> Path:
    """The directory for screenshots: that of the docs if `TAKE_PICTURES` says so."""
    directory = PICTURES if os.environ.get(TAKE_PICTURES) == "1" else otherwise
    directory.mkdir(parents=True, exist_ok=True)
    return directory
