"""The other end of a websocket, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

from tests.asgi import http_scope

PATIENCE = 40  # seconds: nobody waits that long unless he waits for ever


class Socket:
    """A client of a websocket. What the application raises is kept, as a server would log it.

    Args:
        app: the application.
        path: of the route.
        on_send: awaited inside `send`, for every message of the application.
        scope: more of the ASGI scope.
    """

    def __init__(
        self,
        app: Any,
        path: str = "/",
        *,
        on_send: Callable[[dict[str, Any]], Awaitable[object]] | None = None,
        **scope: Any,
    ) -> None:
        self.messages: list[dict[str, Any]] = []  # all that came
        self.error: BaseException | None = None
        self._on_send = on_send
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._news = asyncio.Condition()
        self._read = 0
        self._inbox.put_nowait({"type": "websocket.connect"})
        asgi = http_scope("GET", path) | {"type": "websocket", "subprotocols": []} | scope
        del asgi["method"]
        self.task = asyncio.create_task(self._serve(app, asgi))

    async def _serve(self, app: Any, asgi: dict[str, Any]) -> None:
        try:
            await app(asgi, self._inbox.get, self._send)
        except Exception as error:
            self.error = error
        finally:
            async with self._news:
                self._news.notify_all()

    async def _send(self, message: dict[str, Any]) -> None:
        if self._on_send is not None:
            await self._on_send(message)
        async with self._news:
            self.messages.append(message)
            self._news.notify_all()

    async def next(self) -> dict[str, Any] | None:
        """Return the next message; None if the application has ended without one."""
        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(lambda: len(self.messages) > self._read or self.task.done())
        if len(self.messages) == self._read:
            return None
        self._read += 1
        return self.messages[self._read - 1]

    async def ask(self, text: str) -> str | None:
        """Send a text, and return the one that comes back; None if it is something else."""
        self.tell(text)
        message = await self.next()
        return None if message is None else message.get("text")

    def tell(self, text: str) -> None:
        """Send a text, and wait for nothing."""
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    @property
    def is_accepted(self) -> bool:
        """Tell whether the application has accepted."""
        return any(each["type"] == "websocket.accept" for each in self.messages)

    @property
    def code(self) -> int | None:
        """The code that the application has closed with."""
        codes = [each["code"] for each in self.messages if each["type"] == "websocket.close"]
        assert len(codes) <= 1, "closed twice"
        return codes[0] if codes else None

    async def hang_up(self) -> None:
        """Be gone, and wait until the application has noticed."""
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)

    async def end(self) -> None:
        """Wait until the application has ended by itself."""
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self.task.done():
            await self.hang_up()
