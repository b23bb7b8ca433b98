"""Real servers with the application of the faults, and a small client for them."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support import warm

ROOT = Path(__file__).resolve().parents[2]
FACTORY = "tests.acceptance.application:make"
COMMANDS = {
    "uvicorn": ["--factory", FACTORY, "--port", "0"],
    "gunicorn": [f"{FACTORY}()", "--bind", "127.0.0.1:0"],
}


class Server:
    """A server in processes of its own, and where it listens, which it tells in its log."""

    def __init__(self, process: warm.Popen, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def port(self) -> int:
        """Return it; 0 if nobody listens yet."""
        told = re.search(r"http://127\.0\.0\.1:(\d+)", self.log.read_text())
        return int(told[1]) if told else 0

    async def ask(self, method: str, path: str) -> tuple[int, bytes]:
        """Send a request on a connection of its own, and return the status and the body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request(method, path))
            answer = await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    async def hang_up_from(self, path: str, after: float) -> None:
        """Send a request, and be gone before it is answered."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request("POST", path))
        await writer.drain()
        await asyncio.sleep(after)
        writer.transport.abort()

    async def until_ready(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                await self.ask("GET", "/rows/0")
            except (OSError, IndexError):
                told = self.log.read_text()
                assert self.process.poll() is None, told
                assert time.monotonic() < deadline, told
                await asyncio.sleep(0.05)
            else:
                return


def request(method: str, path: str) -> bytes:
    """Return the bytes of a request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Content-Length: 0", "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def running(program: str, *options: str, url: str, log: Path) -> Iterator[Server]:
    """Start a server; end it, and all of its workers, at the end."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    with log.open("wb") as file:
        process = warm.Popen(
            [sys.executable, "-m", program, *COMMANDS[program], *options],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": path},
            stdout=file,
            stderr=file,
        )
    try:
        yield Server(process, log)
    finally:
        family = [process, *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        try:
            process.wait(40)
        finally:
            for member in family:
                if member is not process and member.is_running():
                    member.kill()
            process.kill()
            process.wait(40)
