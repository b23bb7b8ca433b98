"""What stops the start is told in a sentence, and not as a traceback."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dbscope import DBScopeError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]


class StartupErrorMiddleware:
    """ASGI middleware: an error of the library that stops the start is told in one sentence.

    Starlette gives the server a traceback to print, in which the sentence is the last line.

    Example:
        >>> app = FastAPI(lifespan=lifespan)
        >>> app.add_middleware(StartupErrorMiddleware)
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Pass everything on; change only what is said of a start that failed."""

        async def say(message: Message) -> None:
            error = sys.exception()
            if message["type"] == "lifespan.startup.failed" and isinstance(error, DBScopeError):
                message = {**message, "message": error.what or str(error)}
            await send(message)

        await self._app(scope, receive, say if scope["type"] == "lifespan" else send)
