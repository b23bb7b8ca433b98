"""An application that one observer looks at; it makes as many requests as it is told.

python -m benchmarks.observers.answer TOOL URL FOLDER [--served]
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import process_time
from typing import Any

import uvicorn
from sqlalchemy import make_url

from benchmarks.observers.tools import TOOLS, settle
from benchmarks.ten import STATEMENTS, Subject, different

Ask = Callable[[int], Awaitable[float]]  # seconds of CPU that so many requests took


@asynccontextmanager
async def called(subject: Subject) -> AsyncIterator[Ask]:
    """Call the application, without a server."""

    async def ask(requests: int) -> float:
        start = process_time()
        await subject.request(requests)
        taken = process_time() - start
        subject.check()
        return taken

    yield ask


CLIENT = """
import http.client, sys
server = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for line in sys.stdin:
    for _ in range(int(line)):
        server.request("GET", "/")
        answer = server.getresponse()
        assert answer.read() and answer.status == 200, answer.status
    print("done", flush=True)
"""


@asynccontextmanager
async def served(subject: Subject) -> AsyncIterator[Ask]:
    """Let uvicorn serve it; the client is another process."""
    # By its protocol asyncio knows that it may be told to send each answer at once.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    settings: dict[str, Any] = {"log_level": "warning", "access_log": False}
    server = uvicorn.Server(uvicorn.Config(subject.app, timeout_keep_alive=3600, **settings))
    serving = asyncio.create_task(server.serve([listening]))
    port = listening.getsockname()[1]
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(port), stdin=PIPE, stdout=PIPE
    )
    assert client.stdin
    assert client.stdout
    told, heard = client.stdin, client.stdout

    async def ask(requests: int) -> float:
        start = process_time()
        told.write(f"{requests}\n".encode())
        assert await heard.readline() == b"done\n"
        taken = process_time() - start
        subject.check_watch()
        return taken

    yield ask
    told.close()
    await client.wait()
    server.should_exit = True
    await serving


async def main(name: str, url: str, folder: str, *more: str) -> None:
    """Answer each line of numbers by a line with seconds."""
    watched = name == "dbscope"
    subject = Subject(make_url(url), STATEMENTS, watched=watched, query=different)
    await subject.prepare()
    tool = TOOLS[name]() if name in TOOLS and not watched else None
    if tool:
        settle(folder)
        tool.install(subject.app, None)  # type: ignore[arg-type]
        tool.clear()
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context((served if more else called)(subject))
        while line := await asyncio.to_thread(sys.stdin.readline):
            gc.collect()
            gc.disable()
            print(await ask(int(line)), flush=True)
            gc.enable()
            if tool:
                tool.clear()
    if tool:
        tool.close()
    await subject.db.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
