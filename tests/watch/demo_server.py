"""The shop of `demo/` with several workers, and people who use it, some of them without luck."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.support import warm
from tests.support.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
DEMO = Path(__file__).parent / "demo"
HELD = "8e44b1f0c3aa"  # the revision that the database is at: one more is pending
PATIENCE = 60.0
STOCK = ("cup", "pot", "can", "jug")


class Demo:
    """A running shop.

    Args:
        url: of an empty PostgreSQL database.
        spool: the folder in which its processes find each other.
        workers: how many.
    """

    def __init__(self, url: str, spool: Path, workers: int = 3) -> None:
        self.url = url
        self.spool = spool
        self.workers = workers
        self.base = f"http://127.0.0.1:{free_port()}"
        path = os.pathsep.join([str(ROOT / "src"), str(DEMO)])
        ours = {"DATABASE_URL": url, "DBSCOPE_WATCH_DIR": str(spool), "PYTHONPATH": path}
        self.environment = {**os.environ, **ours}

    def run(self, *command: str, **more: object) -> warm.Popen:
        """Run a Python command in the folder of the shop."""
        options = {"cwd": DEMO, "env": self.environment, "text": True, **more}
        return warm.Popen([sys.executable, *command], **options)  # type: ignore[call-overload]

    def command(self, *arguments: str) -> str:
        """Return what the command `dbscope` prints."""
        process = self.run("-m", "dbscope", *arguments, stdout=subprocess.PIPE)
        told, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, told
        return told

    def client(self) -> httpx2.Client:
        """Return a client, whose connections end with each answer: another worker may come."""
        return httpx2.Client(base_url=self.base, timeout=30, headers={"connection": "close"})

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Bring the tables to the last revision but one, and serve."""
        self.command("upgrade", HELD, "--app", "main:app")
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            for sku in STOCK:
                connection.execute("INSERT INTO stock VALUES (%s, 100000)", [sku])
            connection.execute("UPDATE stock SET \"left\" = 0 WHERE sku = 'jug'")
        port = self.base.rpartition(":")[2]
        asked = ["main:app", "--port", port, "--workers", str(self.workers)]
        server = self.run("-m", "uvicorn", *asked, "--log-level", "critical")
        try:
            self._wait()
            yield
        finally:
            server.terminate()
            server.wait(PATIENCE)

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(httpx2.TransportError), self.client() as client:
                client.get("/orders/1")
                return
            if time.monotonic() > end:
                pytest.fail("the shop did not start")
            time.sleep(0.05)

    # -- people --------------------------------------------------------------------------------

    def buy(self, times: int) -> None:
        """Be the usual customers, of which one in nine has bad luck."""
        unlucky = [{"card": "expired"}, {"sku": "jug"}]
        with self.client() as client:
            for number in range(times):
                more = unlucky[number // 9 % 2] if number % 9 == 8 else {"sku": STOCK[number % 3]}
                client.post("/orders", params={"customer": f"c{number}", **more})
                client.get(f"/orders/{number % 40 + 1}")

    def look(self, times: int = 3) -> None:
        """Open the page of all orders, which is slow."""
        with self.client() as client:
            for _ in range(times):
                client.get("/orders")

    def release(self, times: int) -> None:
        """Be served by a release that writes what only COMMIT will look at, and refuse."""
        with self.client() as client:
            for number in range(times):
                client.post("/orders", params={"customer": f"r{number}", "sku": "unknown"})

    def complain(self) -> None:
        """Be told that it worked when it did not, and the other way round."""
        with self.client() as client:
            client.post("/basket/checkout", params={"customer": "lost"})
            client.post("/orders/express", params={"customer": "twice"})

    def block(self, seconds: float = 0.6) -> None:
        """Count the stock, while somebody wants the last cup."""
        first = self._at_once("POST", "/stock/cup", left=90000, seconds=seconds)
        time.sleep(0.15)
        second = self._at_once("POST", "/orders", customer="patient")
        first.join()
        second.join()

    def stick(self, times: int = 12, seconds: float = 1.5) -> list[threading.Thread]:
        """Ask for more reports than there are connections; return who waits for them."""
        return [self._at_once("GET", "/reports/daily", seconds=seconds) for _ in range(times)]

    def _at_once(self, method: str, path: str, **query: object) -> threading.Thread:
        def work() -> None:
            with self.client() as client:
                client.request(method, path, params=query)

        thread = threading.Thread(target=work)
        thread.start()
        return thread
