"""Make the pictures of the page: `python -m tests.watch.pictures`, with Debian's chromium.

The shop of `demo/` is used by its people for some minutes, on a PostgreSQL of our own, by three
workers; then each view is taken on a desk and on a phone, light and dark, and each story once. With
Pillow installed the pictures have fewer colours, and a third of the size.
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

from playwright.sync_api import Browser, Page

from tests.support.browser import chromium
from tests.support.postgres import OwnServer
from tests.support.processes import find_binaries
from tests.watch.demo_server import Demo

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
SIZES = {"desk": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
SCHEMES = ("light", "dark")
VIEWS = ("live", "record", "now", "routes", "problems", "migrations")
SOUGHT = {  # records, by what is typed into the filter
    "record": "Declined",
    "slow": "GET /orders 200",
    "twice": "by hand",
    "waited": "for a row of stock",
}
MINUTES = 8.0
COLORS = 128


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


def use(demo: Demo, minutes: float) -> None:
    """Be busy; in the last third there is a release that writes what it may not."""
    end = time.monotonic() + minutes * 60
    while (left := end - time.monotonic()) > 0:
        demo.buy(15)
        demo.look(1)
        if left < minutes * 20:
            demo.release(4)
        for thread in demo.stick(7 if left < minutes * 40 else 2, 1.2):
            thread.join()
    demo.run("nightly.py", "0").wait()
    demo.look(1)
    demo.block()
    demo.complain()
    demo.buy(3)
    time.sleep(1)


def open_view(page: Page, base: str, view: str) -> None:
    """Open a view, and wait until it is drawn."""
    page.goto(f"{base}/_db/")
    page.wait_for_selector(".records li a")
    if view in SOUGHT:
        page.get_by_role("searchbox").fill(SOUGHT[view])
        page.locator(".records li a").first.click()
        page.wait_for_selector(".waterfall li")
    elif view != "live":
        page.goto(f"{base}/_db/#/{view}")
        page.wait_for_selector("main h2")
        time.sleep(1.2)
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")


def explain(page: Page) -> None:
    """Open the last statement that can be explained, and have it explained."""
    for summary in page.locator("details summary").all():
        summary.click()
        button = page.get_by_role("button", name="Explain")
        if button.count() and button.last.is_visible() and "order_lines" in summary.inner_text():
            button.last.click()
            page.wait_for_selector(".sql div pre")
            return
        summary.click()


def take(browser: Browser, base: str, view: str, size: str, scheme: Any) -> None:
    """Take one picture."""
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    open_view(page, base, view)
    if view == "slow":
        explain(page)
    path = PICTURES / f"watch-{view}-{size}-{scheme}.png"
    page.screenshot(path=path)
    context.close()
    with contextlib.suppress(ImportError):
        from PIL import Image

        Image.open(path).convert("RGB").quantize(COLORS).save(path, optimize=True)


def taken(browser: Browser, demo: Demo) -> None:
    """Take all pictures."""
    wanted = [(view, size, scheme) for view in VIEWS for size in SIZES for scheme in SCHEMES]
    stories = [(view, "desk", "light") for view in SOUGHT if view not in VIEWS]
    for view, size, scheme in [*wanted, *stories]:
        waiting = demo.stick(12, 3.0) if view == "now" else []
        take(browser, demo.base, view, size, scheme)
        for thread in waiting:
            thread.join()


def main(minutes: float = MINUTES) -> None:
    """Use the shop for some minutes, and take all pictures."""
    with busy_shop() as demo, chromium() as browser:
        use(demo, minutes)
        taken(browser, demo)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
