"""The shop as a process of its own: how to start it, and who speaks to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.support import warm

ROOT = Path(__file__).resolve().parents[2]
# A client of ours may be silent for longer than a server usually keeps its connection.
SERVER = ("-m", "server", "--port", "0", "--timeout-keep-alive", "60")
PASSWORD = "correct horse battery staple"
# Of tests, which come from one address, and make many users.
NO_LIMITS = dict.fromkeys(("LOGIN_ATTEMPTS_FROM", "REGISTRATIONS_FROM"), "100000/minute")
PATIENCE = 40.0  # seconds for a start, on a machine that is busy with something else


class Shop:
    """A running shop: its address, its database, and what it has written."""

    def __init__(self, process: warm.Popen, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    @property
    def text(self) -> str:
        """All that it wrote to its output."""
        return self.log.read_text(errors="backslashreplace")

    @property
    def base(self) -> str:
        """Where it listens, which it tells in its log."""
        found = re.search(r"running on (http://\S+)", self.text)
        return found[1] if found else ""

    def wait_until_ready(self, workers: int) -> None:
        """Wait until all of its workers answer."""
        deadline = time.monotonic() + PATIENCE
        while not self.base or self.text.count("startup complete") < workers:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the shop did not start:\n{self.text}")
            time.sleep(0.02)

    def visitor(self, **options: Any) -> httpx2.Client:
        """Return a client that is not logged in."""
        return httpx2.Client(base_url=self.base, timeout=30, **options)


@contextmanager
def shop(
    url: str, folder: Path, *, command: Sequence[str] = SERVER, workers: int = 1, **settings: str
) -> Iterator[Shop]:
    """Start the shop on an empty database, and end it with all its workers.

    Args:
        url: the database, as people write it.
        folder: where it runs, and leaves its log.
        command: what Python is to run.
        workers: how many processes that makes.
        settings: more of its environment.
    """
    log = folder / "log"
    with log.open("wb") as file:
        process = warm.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=environment(url, **settings),
            stdout=file,
            stderr=file,
        )
    running = Shop(process, url, log)
    try:
        running.wait_until_ready(workers)
        yield running
    finally:
        end(process)


def environment(url: str, **settings: str) -> dict[str, str]:
    """Return the environment of a shop without sample data."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    ours = {"DATABASE_URL": url, "PYTHONPATH": path, "SAMPLE_DATA": "false", **NO_LIMITS}
    return {**kept, **ours, "TEST_PASSWORDS": "cheap", **settings}


def end(process: warm.Popen) -> None:
    """Ask it to end, and see to it that it does."""
    running = process.poll() is None
    family = psutil.Process(process.pid).children(recursive=True) if running else []
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(40)
    _, alive = psutil.wait_procs(family, timeout=40)
    for member in (*alive, process):
        member.kill()
    process.wait(40)


def refused(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a shop that must not start, and return how it ended."""
    env = environment(f"sqlite:///{folder}/shop.db", **settings)
    return warm.run([sys.executable, *SERVER], cwd=folder, env=env, timeout=PATIENCE)


def register(client: httpx2.Client, email: str, password: str = PASSWORD) -> int:
    """Make a user, and return the id."""
    user = {"email": email, "name": email.partition("@")[0], "password": password}
    answer = client.post("/users", json=user)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def log_in(client: httpx2.Client, email: str, password: str = PASSWORD) -> str:
    """Log the client in, and return its cookie."""
    answer = client.post("/login", json={"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    return str(client.cookies["session"])


def new_item(client: httpx2.Client, name: str, price: str = "1.00", stock: int = 0) -> int:
    """Store an item that belongs to the client, and return the id."""
    owner = client.get("/users/me").json().get("id")
    answer = client.post("/items", json={"name": name, "price": price, "owner_id": owner})
    assert answer.status_code == 201, answer.text
    item = int(answer.json()["id"])
    if stock:
        assert client.post(f"/items/{item}/stock", json={"quantity": stock}).status_code == 201
    return item


def until(holds: Callable[[], bool], what: str, patience: float = 30.0) -> None:
    """Wait until something holds; fail if it takes longer than the patience (seconds)."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)
