"""Call an application in this process, and watch what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """What came out of one request."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def status(self) -> int | None:
        """The status, or None if no response was started."""
        starts = [m["status"] for m in self.messages if m["type"] == "http.response.start"]
        assert len(starts) <= 1, "two responses to one request"
        return starts[0] if starts else None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        for message in self.messages:
            if message["type"] == "http.response.start":
                return {k.decode().lower(): v.decode() for k, v in message.get("headers", ())}
        return {}

    @property
    def body(self) -> bytes:
        """The body of the response."""
        return b"".join(m.get("body", b"") for m in self.messages)

    @property
    def is_complete(self) -> bool:
        """Tell whether the last piece of the body was sent."""
        return bool(self.messages) and not self.messages[-1].get("more_body", False)


def http_scope(method: str, path: str) -> dict[str, Any]:
    """Return the ASGI scope of a request without a body."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"test")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


async def ask(
    app: Any,
    method: str,
    path: str,
    *,
    on_start: Callable[[dict[str, Any]], Any] | None = None,
    on_send: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
    body: Sequence[bytes] = (b"",),
    headers: Sequence[tuple[bytes, bytes]] = (),
    more: Callable[[], Awaitable[bytes]] | None = None,
) -> Answer:
    """Send a request; an exception that the server would log is kept in the answer.

    Args:
        app: the application.
        method: of HTTP.
        path: of the route.
        on_start: called inside `send` when `http.response.start` passes.
        on_send: awaited inside `send` for every message.
        body: of the request, in the pieces in which it comes.
        headers: of the request, beside Host.
        more: waits for the next piece behind these, of a body that does not end.
    """
    answer = Answer()
    unread = [{"type": "http.request", "body": piece, "more_body": True} for piece in body]
    unread[-1]["more_body"] = more is not None
    scope = http_scope(method, path)
    scope["headers"] += headers

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop(0)
        if more is not None:
            return {"type": "http.request", "body": await more(), "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if on_start is not None and message["type"] == "http.response.start":
            on_start(message)
        if on_send is not None:
            await on_send(message)
        answer.messages.append(message)

    try:
        await app(scope, receive, send)
    except Exception as error:
        answer.error = error
    return answer


async def call(app: Any, method: str, path: str) -> Answer:
    """Send a request, and raise what the server would log."""
    answer = await ask(app, method, path)
    if answer.error is not None:
        raise answer.error
    return answer
