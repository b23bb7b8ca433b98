"""Debian's chromium, without what it does for people."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The first draws no window that nobody sees, which is a third of the work of the second.
PROGRAMS = ("chromium-headless-shell", "chromium")
PATIENCE = 60_000  # milliseconds: the machine may be busy with something else
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Return the program, if there is one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def chromium(*options: str) -> Iterator[Browser]:
    """Start it, with more options if need be, and end it."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        program, arguments = find_chromium(), [*QUIET, *options]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser; of a module, since it keeps its thread's event loop running."""
    if find_chromium() is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"there is no browser: install {PROGRAMS[0]}")
    with chromium() as browser:
        yield browser
