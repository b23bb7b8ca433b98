"""What is new, as server-sent events: twice a second, all of it at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dbscope.watch.page.safety import HEADERS
from dbscope.watch.share.values import decoded, dictionary, encoded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVERY = 0.5  # seconds between two looks at all processes
LASTS = 20.0  # seconds of one stream: a server that ends waits for it, a browser comes again
KNOWN = 100  # processes, of which a browser says what it has


class Stream:
    """One browser that listens.

    Args:
        look: given what the browser has seen, notes what it sees, and returns it as JSON.
        send: of its request.
    """

    def __init__(self, look: Callable[[dict[str, Any]], Awaitable[bytes]], send: Any) -> None:
        self.look = look
        self.send = send
        self.loop = asyncio.get_running_loop()
        self.seen: dict[str, Any] = {}

    async def run(self, scope: Any, receive: Any) -> None:
        """Send, until the browser is gone or the time is up."""
        self.seen = known(dict(scope["headers"]).get(b"last-event-id", b""))
        headers = [(b"content-type", b"text/event-stream"), *HEADERS]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send(b"retry: 300\n\n")
        gone = asyncio.create_task(self._gone(receive))
        try:
            end = self.loop.time() + LASTS
            while self.loop.time() < end and not gone.done():
                await self._tell()
                await asyncio.wait([gone], timeout=EVERY)
        finally:
            gone.cancel()
        await self.send({"type": "http.response.body", "body": b""})

    async def _tell(self) -> None:
        found = await self.look(self.seen)
        await self._send(b"event: look\nid: %b\ndata: %b\n\n" % (encoded(self.seen), found))

    async def _gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _send(self, told: bytes) -> None:
        await self.send({"type": "http.response.body", "body": told, "more_body": True})


def known(told: bytes) -> dict[str, Any]:
    """Return what a browser that comes again says it has: by process, the last record."""
    try:
        found = dictionary(decoded(told or b"{}"))
    except ValueError:
        return {}
    few = list(found.items())[:KNOWN]
    return {name: number for name, number in few if isinstance(number, int)}
