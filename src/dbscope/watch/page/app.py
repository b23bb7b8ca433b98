"""The page as an ASGI application: its files, what it asks for, and what is new, as it comes."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbscope.watch.page import told
from dbscope.watch.page.safety import HEADERS, Guard

if TYPE_CHECKING:
    from dbscope.watch.records import Record
    from dbscope.watch.watcher import Watch

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".svg": b"image/svg+xml",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript",
    ".css": b"text/css",
}
FILES = {
    name: ((STATIC / name).read_bytes(), TYPES[Path(name).suffix])
    for name in ("index.html", "app.js", "waterfall.js", "style.css", "icon.svg")
}
WAITING = 500  # records that a slow browser may not have got yet
EVERY = 1.0  # seconds between two looks at what goes on now
LASTS = 20.0  # seconds of one stream: a server that ends waits for it, a browser comes again


class Page:
    """Shows one watch.

    Args:
        watch: what is shown.
        guard: who may see it.
    """

    def __init__(self, watch: Watch, guard: Guard) -> None:
        self.watch = watch
        self.guard = guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if not path.strip("/") and self.guard.signs_in(scope):
            await self._sign_in(scope, send)
            return
        status = await self.guard.refuses(scope)
        if status is not None:
            await answer(send, status, b"text/plain", REFUSED.get(status, b"Refused."))
        elif path == "/events":
            await Stream(self.watch, send).run(receive)
        elif path.startswith("/api/"):
            await self._answer_json(send, path.removeprefix("/api/"))
        else:
            await self._file(send, path.strip("/") or "index.html", scope)

    async def _sign_in(self, scope: Any, send: Any) -> None:
        root = scope.get("root_path", "") or "/"
        headers = [self.guard.cookie(root), (b"location", f"{root.rstrip('/')}/".encode())]
        await answer(send, 303, b"text/plain", b"", headers)

    async def _file(self, send: Any, name: str, scope: Any) -> None:
        if name == "index.html" and not scope["path"].endswith("/"):
            root = scope.get("root_path", "")
            await answer(send, 303, b"text/plain", b"", [(b"location", f"{root}/".encode())])
        elif name in FILES:
            content, kind = FILES[name]
            await answer(send, 200, kind, content)
        else:
            await answer(send, 404, b"text/plain", b"There is no such page.")

    async def _answer_json(self, send: Any, asked: str) -> None:
        found = self._asked(asked)
        status = 404 if found is None else 200
        await answer(send, status, b"application/json", encoded(found))

    def _asked(self, asked: str) -> Any:
        what, _, which = asked.partition("/")
        if what == "now":
            return told.now(self.watch, os.getpid())
        if what == "records" and not which:
            return [told.summary(record) for record in self.watch.recent(1000)]
        if what == "problems":
            return [told.problem(each) for each in self.watch.problems()]
        if what == "records" and which.isdigit():
            found = [each for each in self.watch.recent(10_000) if each.number == int(which)]
            return told.details(found[0]) if found else None
        return None


REFUSED = {
    401: b"Open the address that was printed when the application started: it has the token.",
    403: b"Not for you.",
    405: b"This page is only read.",
    421: b"Not by this name: see the argument hosts of db.watch.mount().",
}


async def answer(
    send: Any,
    status: int,
    kind: bytes,
    body: bytes,
    more: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """Answer, with the headers that keep others out."""
    length = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", kind), length, *HEADERS, *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def encoded(value: Any) -> bytes:
    """Return JSON."""
    return json.dumps(value, separators=(",", ":"), default=str).encode()


class Stream:
    """Server-sent events: each new record, and once a second what goes on."""

    def __init__(self, watch: Watch, send: Any) -> None:
        self.watch = watch
        self.send = send
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Record] = asyncio.Queue(WAITING)

    async def run(self, receive: Any) -> None:
        """Send, until the browser is gone or the time is up."""
        headers = [(b"content-type", b"text/event-stream"), *HEADERS]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._event(b"retry: 300\n\n")
        gone = asyncio.create_task(self._gone(receive))
        self.watch.on_record(self.hear)
        try:
            await self._run(gone)
        finally:
            self.watch.forget(self.hear)
            gone.cancel()
        await self.send({"type": "http.response.body", "body": b""})

    async def _run(self, gone: asyncio.Task[None]) -> None:
        end = self.loop.time() + LASTS
        while self.loop.time() < end and not gone.done():
            await self._told("now", told.now(self.watch, os.getpid()))
            pause = self.loop.time() + EVERY
            while (left := pause - self.loop.time()) > 0 and not gone.done():
                try:
                    record = await asyncio.wait_for(self.queue.get(), left)
                except TimeoutError:
                    break
                await self._told("record", told.summary(record))

    async def _gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    def hear(self, record: Record) -> None:
        """Take a record, from any thread; what a slow browser has no room for it does not get."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._put, record)

    def _put(self, record: Record) -> None:
        if not self.queue.full():
            self.queue.put_nowait(record)

    async def _told(self, kind: str, value: Any) -> None:
        await self._event(b"event: %b\ndata: %b\n\n" % (kind.encode(), encoded(value)))

    async def _event(self, told: bytes) -> None:
        await self.send({"type": "http.response.body", "body": told, "more_body": True})
