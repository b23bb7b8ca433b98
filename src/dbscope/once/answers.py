"""The answer of a request with a key: held until all of it is there, stored, and repeated."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
WITHOUT_BODY = frozenset({204, 205, 304})
NOT_KEPT = b""  # an answer that was given, and is not there to be repeated
REPLAYED = (b"idempotent-replayed", b"true")


def encoded(start: Message, body: bytes, kept: Collection[str]) -> bytes:
    """Return an answer as it is stored: a line of JSON, and the body as it is."""
    names = {name.lower().encode() for name in kept}
    headers = [
        [name.decode("latin-1"), value.decode("latin-1")]
        for name, value in start.get("headers", ())
        if name.lower() in names
    ]
    head = json.dumps({"status": start["status"], "headers": headers})
    return head.encode() + b"\n" + body


def decoded(stored: bytes) -> list[Message]:
    """Return the messages that repeat an answer."""
    head, _, body = stored.partition(b"\n")
    kept = json.loads(head)
    headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in kept["headers"]]
    start: Message = {
        "type": "http.response.start",
        "status": kept["status"],
        "headers": [*headers, REPLAYED],
    }
    return [start, {"type": "http.response.body", "body": body}]


class Held:
    """Between the application and its client: lets an answer leave when all of it is there.

    A stream is not held: without `content-length` nobody knows when it ends.

    Args:
        send: of the server.
        limit: bytes; of a larger answer nothing is held.
        store: is given the answer that is about to leave: its start, and the body; None instead of
            that, where it was not held.
        started: is called when the answer has begun to leave, or could not.
    """

    def __init__(
        self,
        send: Send,
        limit: int,
        store: Callable[[Message, bytes | None], None],
        started: Callable[[], None],
    ) -> None:
        self._send = send
        self._limit = limit
        self._store = store
        self._started = started
        self._start: Message | None = None
        self._body = b""
        self._has_left = False

    async def send(self, message: Message) -> None:
        """Take a message of the application's."""
        kind = message["type"]
        if self._has_left or (self._start is None and kind != "http.response.start"):
            await self._send(message)
        elif self._start is None:
            self._start = message
            if not self._can_be_held(message):
                await self._leave(None)
        elif kind == "http.response.body":
            await self._take(message)
        else:  # a file that the server sends by itself, trailers: nothing that could be repeated
            await self._leave(None)
            await self._send(message)

    async def _take(self, message: Message) -> None:
        self._body += message.get("body", b"")
        more = message.get("more_body", False)
        if more and len(self._body) <= self._limit:
            return
        is_whole = not more and len(self._body) <= self._limit
        await self._leave(self._body if is_whole else None)
        await self._send({"type": "http.response.body", "body": self._body, "more_body": more})
        self._body = b""

    async def _leave(self, body: bytes | None) -> None:
        self._has_left = True
        assert self._start is not None
        self._store(self._start, body)
        try:
            await self._send(self._start)  # COMMIT
        finally:
            self._started()

    def _can_be_held(self, start: Message) -> bool:
        lengths = [v for name, v in start.get("headers", ()) if name.lower() == b"content-length"]
        if start["status"] in WITHOUT_BODY:
            return True
        return len(lengths) == 1 and lengths[0].isdigit() and int(lengths[0]) <= self._limit
