"""The page as an ASGI application: its files, what it asks for, and what is new, as it comes."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbscope.errors import DBScopeError
from dbscope.watch.page import plans, revisions
from dbscope.watch.page.safety import HEADERS, Guard
from dbscope.watch.page.stream import Stream
from dbscope.watch.share.values import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.watch.findings import Findings
    from dbscope.watch.share.asking import Everybody

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".svg": b"image/svg+xml",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript",
    ".css": b"text/css",
}
FILES = {path.name: (path.read_bytes(), TYPES[path.suffix]) for path in STATIC.iterdir()}
PLAN = "/api/plan"  # all that is not only read: it asks the database
LARGEST = 1000  # bytes of a question
AT_ONCE = 4  # threads that wait for other processes


class Page:
    """Shows one database, as all processes see it.

    Args:
        watch: of this process.
        everybody: all processes, this one too.
        guard: who may see it.
        migrations: whose revisions are shown; None: none.
    """

    def __init__(
        self, watch: Findings, everybody: Everybody, guard: Guard, migrations: Any = None
    ) -> None:
        self.watch = watch
        self.guard = guard
        self.migrations = migrations
        self.everybody = everybody
        self._threads: tuple[int, ThreadPoolExecutor] | None = None  # of which process

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        path = path_below(scope)
        if not path.strip("/") and self.guard.signs_in(scope):
            await self._sign_in(scope, send)
            return
        status = await self.guard.refuses(scope, asks=path == PLAN)
        if status is not None:
            await answer(send, status, b"text/plain", REFUSED.get(status, b"Refused."))
        elif path == "/events":
            await Stream(self.look, send).run(scope, receive)
        elif path == PLAN:
            await self._plan(receive, send)
        elif path.startswith("/api/"):
            await self._answer_json(send, path.removeprefix("/api/"))
        else:
            await self._file(send, path.strip("/") or "index.html", scope)

    async def look(self, seen: dict[str, Any]) -> bytes:
        """Return as JSON what is new in all processes; `seen` notes what is known then."""
        found: bytes = await self.in_thread(lambda: encoded(list(self.everybody.look(seen))))
        return found

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call what waits for other processes, in threads that the application does not need."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    @property
    def threads(self) -> ThreadPoolExecutor:
        """The threads of this process: those of a parent are not there after a fork."""
        if self._threads is None or self._threads[0] != os.getpid():
            self._threads = os.getpid(), ThreadPoolExecutor(AT_ONCE, "dbscope page")
        return self._threads[1]

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
        found = await self._asked(asked)
        status = 404 if found is None else 200
        await answer(send, status, b"application/json", encoded(found))

    async def _asked(self, asked: str) -> Any:
        what, _, which = asked.partition("/")
        if what == "records" and which:
            return await self.in_thread(self.everybody.record, which)
        if what == "migrations" and self.migrations is not None:
            noted = await self.in_thread(self.everybody.revisions)
            return await self.in_thread(revisions.told, self.migrations, noted)
        if asked in {"problems", "routes", "pool"}:
            return await self.in_thread(getattr(self.everybody, asked))
        return None

    async def _plan(self, receive: Any, send: Any) -> None:
        """Say how the database would do a SELECT of a record: the page itself sends no SQL."""
        try:
            asked = decoded(await body_of(receive))
            record: Any = await self.in_thread(self.everybody.record, str(asked["id"]))
            sql: str = record["sent"][int(asked["place"])]["sql"]
        except (ValueError, KeyError, TypeError, IndexError):
            await answer(send, 404, b"application/json", encoded({"refused": "It is not kept."}))
            return
        try:
            found: dict[str, Any] = {"plan": await plans.plan(self.watch, sql)}
        except DBScopeError as error:
            found = {"refused": error.what}
        await answer(send, 200, b"application/json", encoded(found))


REFUSED = {
    401: b"Open the address that was printed when the application started: it has the token.",
    403: b"Not for you.",
    405: b"This page is only read.",
    421: b"Not by this name: see the argument hosts of db.watch.mount().",
}


def path_below(scope: Any) -> str:
    """Return the path below the page.

    A proxy in front may have taken its prefix away, which `FastAPI(root_path=...)` adds to
    `root_path` and not to the path.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    stripped = root.removeprefix(scope.get("app_root_path", ""))
    return path.removeprefix(root if path.startswith(root) else stripped)


async def body_of(receive: Any) -> bytes:
    """Return the body of a request.

    Raises:
        ValueError: it is too large.
    """
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST:
            raise ValueError("The question is too long.")
        if not message.get("more_body"):
            return body


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
