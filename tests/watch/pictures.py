"""Make the pictures of the page: `python -m tests.watch.pictures`, with Debian's chromium.

The shop of `demo/` is used by its people for a while, on a PostgreSQL of our own, by three workers;
then each view is taken on a desk and on a phone, light and dark.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.postgres import OwnServer
from tests.support.processes import find_binaries
from tests.watch.demo_server import Demo

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
SIZES = {"desk": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
VIEWS = ("live", "record", "now", "routes", "problems", "migrations")


@contextlib.contextmanager
def busy_shop() -> Iterator[Demo]:
    """Give a shop in which much has happened."""
    binaries = find_binaries()
    assert binaries is not None, "PostgreSQL is needed"
    server = OwnServer(binaries, fsync=False)
    server.start()
    folder = Path(tempfile.mkdtemp())
    demo = Demo(server.new_database("shop"), folder / "spool")
    try:
        with demo.serving():
            yield demo
    finally:
        server.close()
        shutil.rmtree(folder)


def use(demo: Demo) -> None:
    """Be busy for half a minute."""
    for _ in range(4):
        demo.buy(20)
        demo.look(2)
    for thread in demo.stick(14):
        thread.join()
    demo.complain()
    demo.block()
    demo.run("nightly.py", "0").wait()
    demo.buy(6)
    time.sleep(1)


def open_view(page: Page, base: str, view: str) -> None:
    """Open a view, and wait until it is drawn."""
    page.goto(f"{base}/_db/")
    page.wait_for_selector(".records li a")
    if view == "record":
        page.goto(f"{base}/_db/#/live/disagrees")
        page.get_by_text("Declined").first.click()
        page.wait_for_selector(".waterfall li")
    elif view != "live":
        page.goto(f"{base}/_db/#/{view}")
        page.wait_for_selector("main h2")
        time.sleep(1.2)
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")


def take(browser: Browser, base: str, view: str, size: str, scheme: Any) -> None:
    """Take one picture."""
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    open_view(page, base, view)
    page.screenshot(path=PICTURES / f"watch-{view}-{size}-{scheme}.png")
    context.close()


def main(*only: str) -> None:
    """Take all pictures, or those of some views."""
    program = shutil.which("chromium")
    with busy_shop() as demo, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        use(demo)
        for view in only or VIEWS:
            for size in SIZES:
                for scheme in ("light", "dark"):
                    waiting = demo.stick(11, 1.9) if view == "now" else []
                    take(browser, demo.base, view, size, scheme)
                    for thread in waiting:
                        thread.join()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
