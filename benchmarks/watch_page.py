"""The page while a hundred thousand requests go by: does it stay responsive, and small?

    .venv/bin/python -m benchmarks.watch_page [--requests 100000]

The application of `benchmarks.watch_memory` behind uvicorn, its page open in Debian's chromium all
the while, and a client that asks as fast as it is answered, in a process of its own. After each
tenth: how long the page takes from a click to the view (a list, a record), its longest turn and
its memory since the tenth before, and the memory of the server.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import uvicorn
from playwright.sync_api import Page

from benchmarks.ten import Base
from benchmarks.watch_memory import TENTHS, application
from tests.support.browser import chromium
from tests.support.processes import free_port

SLOWEST = 1.0  # seconds from a click to the view
CLIENT = """
import http.client, sys
server = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    server.request("GET", f"/{number}")
    server.getresponse().read()
"""
LOOK_FOR_LONG_TURNS = """
window.longest = 0;
new PerformanceObserver(list => {
    for (const each of list.getEntries()) window.longest = Math.max(window.longest, each.duration);
}).observe({entryTypes: ["longtask"]});
"""


def serve(port: int, folder: str) -> None:
    """Serve the application, watched, with its page."""
    db, app = application(folder)
    db.sync.ensure_schema(Base.metadata)
    db.watch.start()
    db.watch.mount(app, auth=lambda _: True)
    uvicorn.run(app, port=port, log_level="critical")


@contextmanager
def serving() -> Iterator[tuple[int, psutil.Process]]:
    """Start the server, and return its port and its process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.watch_page", "--serve", str(port), folder]
        with subprocess.Popen(command) as server:
            try:
                yield port, psutil.Process(server.pid)
            finally:
                server.terminate()


def clicks(page: Page, base: str) -> tuple[float, float]:
    """Return how many seconds the page takes to show the routes, and a record."""
    start = time.perf_counter()
    page.goto(f"{base}#/routes")
    page.wait_for_selector("main h2")
    routes = time.perf_counter() - start
    page.goto(f"{base}#/")
    page.wait_for_selector(".records li a")
    start = time.perf_counter()
    page.locator(".records li a").first.click()
    page.wait_for_selector(".waterfall li")
    record = time.perf_counter() - start
    page.goto(f"{base}#/")
    page.wait_for_selector(".records li a")
    return routes, record


def main(requests: int) -> bool:
    """Print a line for each tenth, and tell whether it was too slow."""
    slowest = 0.0
    with serving() as (port, server), chromium("--enable-precise-memory-info") as browser:
        page = browser.new_page()
        page.add_init_script(LOOK_FOR_LONG_TURNS)
        base = f"http://127.0.0.1:{port}/_db/"
        wait_for(port)
        page.goto(base)
        for tenth in range(TENTHS):
            first, last = (requests * part // TENTHS for part in (tenth, tenth + 1))
            asking: Any = [sys.executable, "-c", CLIENT, *map(str, (port, first, last))]
            with subprocess.Popen(asking) as client:
                time.sleep(2)
                routes, record = clicks(page, base)  # while it is busiest
                client.wait()
            longest = page.evaluate("const was = longest; longest = 0; was")
            heap = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
            memory = server.memory_info().rss / 2**20
            slowest = max(slowest, routes, record)
            seen = f"routes {routes * 1e3:4.0f} ms   record {record * 1e3:4.0f} ms"
            kept = f"page {heap:4.0f} MiB   server {memory:4.0f} MiB"
            print(f"{last:7}   {seen}   longest turn {longest:4.0f} ms   {kept}", flush=True)
    return slowest > SLOWEST


def wait_for(port: int) -> None:
    """Wait until the server listens."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Look whether the page stays responsive.")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--serve", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(int(options.serve[0]), options.serve[1])
    else:
        raise SystemExit(main(options.requests))
