"""A request whose transaction met another one is done again, from its beginning.

Only what has not begun to answer: as long as `http.response.start` is held back, nobody knows.
"""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from dbscope.errors import ScopeClosed
from dbscope.scopes import cookie_session
from dbscope.scopes.backoff import Attempts
from dbscope.scopes.request import RequestScope
from dbscope.scopes.request_state import StateOfAttempt
from dbscope.scopes.routes import route_retries

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from dbscope.scopes.asgi import ASGIScope, Message, Receive, Send
    from dbscope.unit.policy import BeforeRetry, CommitVeto
    from dbscope.unit.unit import Unit


class Middleware(Protocol):
    """What serves a request, and says how often it may be done again."""

    commit_veto: CommitVeto | None
    retry: int
    retry_body_limit: int
    before_retry: BeforeRetry | None

    async def serve(self, request: RequestScope, receive: Receive) -> None:
        """Serve a request in this scope."""


async def serve(middleware: Middleware, asgi: ASGIScope, receive: Receive, send: Send) -> None:
    """Serve a request, again and again while that is asked for and may help."""
    whole = ReplayableRequest(asgi, receive, middleware.retry, middleware.retry_body_limit)
    while True:
        attempt = Attempt(whole, send, middleware.commit_veto)
        try:
            await middleware.serve(attempt, whole.receive)
            await attempt.end(middleware.before_retry)
        finally:
            asgi["state"] = whole.state  # what the attempt has put there refers to both
        if attempt.pause is None:
            return
        whole.rewind()
        await asyncio.sleep(attempt.pause)


class ReplayableRequest:
    """A request as it came in, with which every attempt begins; its body as far as it was read.

    Args:
        asgi: its scope. Those outside of us look at it too, so it is made again what it was,
            instead of giving a copy to each attempt.
        receive: of the server.
        retries: how often it may be done again, unless its route says otherwise.
        limit: bytes of the body that are kept; beyond, nothing is, and it is not done again.
    """

    def __init__(self, asgi: ASGIScope, receive: Receive, retries: int, limit: int) -> None:
        self.state: Any = asgi.setdefault("state", {})
        self.asgi = asgi
        self._items = dict(asgi)
        self._inside: list[tuple[Any, Any]] = [
            (value, value.copy())
            for key, value in asgi.items()
            if isinstance(value, dict | list) and key != "session"
        ]
        self._receive = receive
        self._retries = retries
        self._limit = limit
        self._kept: list[Message] | None = []
        self._unread: list[Message] = []
        self.attempts = Attempts(retries)

    @property
    def retries(self) -> int:
        """How often it may be done again; the route is known only when it was found."""
        chosen = route_retries(self.asgi.get("endpoint"))
        return self._retries if chosen is None else chosen

    @property
    def is_kept(self) -> bool:
        """Tell whether all of it that was read could be read again."""
        return self._kept is not None

    def is_last(self, number: int) -> bool:
        """Tell whether this is the last attempt, by what is known now."""
        return number >= self.retries or not self.is_kept

    async def receive(self) -> Message:
        """Be the `receive` of every attempt: first what was read before, then the server's."""
        if self._unread:
            return self._unread.pop(0)
        message = await self._receive()
        if message["type"] == "http.request" and self._kept is not None:
            self._keep(message, self._kept)
        return message

    def _keep(self, message: Message, kept: list[Message]) -> None:
        self._limit -= len(message.get("body", b""))
        refused = "endpoint" in self.asgi and self.retries == 0
        if refused or self._limit < 0:
            self._kept = None
        else:
            kept.append(dict(message))

    def rewind(self) -> None:
        """Make it what it was before the first attempt."""
        self.asgi.clear()
        self.asgi.update(self._items)
        for value, was in self._inside:
            if isinstance(value, list):
                value[:] = was
            else:  # key by key, for a `state` of ours writes through to the server's
                for key in list(value):
                    del value[key]
                for key in was:
                    value[key] = was[key]
        self._unread = [dict(message) for message in self._kept or ()]


class Attempt(RequestScope):
    """One attempt at a request: it holds a failure back if there is to be another one."""

    pause: float | None = None  # seconds until the next attempt, if there is to be one
    why: BaseException | None = None
    discarded: Message | None = None  # the response that was ready to leave

    def __init__(
        self, whole: ReplayableRequest, send: Send, commit_veto: CommitVeto | None
    ) -> None:
        super().__init__(whole.asgi, send, commit_veto)
        self._whole = whole
        if self._cookies is not None:
            self._cookies = cookie_session.remember(whole.asgi, deep=True)
        self.attempts = whole.attempts
        number = whole.attempts.failed
        is_last = partial(whole.is_last, number)
        whole.asgi["state"] = StateOfAttempt(whole.state, number, is_last)

    def send(self, message: Message) -> Awaitable[None]:
        """Let nothing leave that may have to be done again."""
        if self.started or message["type"] != "http.response.start":
            return super().send(message)
        return self._send_start(message)

    async def _before_start(self, message: Message) -> None:
        if self.pause is not None:
            raise self.failure or ScopeClosed(f"{self} is being done again.")
        self.discarded = message
        seen = self._seen_exception()
        if self.failure is None and seen is not None and self._is_to_be_done_again(seen):
            raise seen
        try:
            await super()._before_start(message)
        except Exception as error:
            self._is_to_be_done_again(error)
            raise

    def _is_to_be_done_again(self, error: BaseException) -> bool:
        """Decide, once for each attempt, whether there is to be another one."""
        whole = self._whole
        if self.pause is None and whole.is_kept and not (self.started or self.stored):
            whole.attempts.retries = whole.retries
            also = {code for unit in self.units.values() for code in unit.source.retry_codes}
            self.pause = whole.attempts.pause_after(error, self, also)
            self.why = error
        if self.pause is not None:
            self.background = ()  # those of the attempt that wins are run
        return self.pause is not None

    async def end_tail(self, units: list[Unit]) -> None:
        """Commit what was done after the start; of what is to be done again, nothing."""
        if self.pause is None:
            await super().end_tail(units)
        else:
            await self._drop_rest()

    async def end_failed(self, error: BaseException) -> None:
        """Let the error go on, or keep it back if the request is to be done again."""
        if not isinstance(error, Exception):
            self.pause = None
        elif self._is_to_be_done_again(self.failure or error):
            await self._drop_rest()
            return
        self._whole.attempts.note_on(self.failure or error)
        await super().end_failed(error)

    async def end(self, before_retry: BeforeRetry | None) -> None:
        """If another attempt follows, tell the application why, and forget this one."""
        if self.pause is None or self.why is None:
            return
        try:
            result = before_retry and before_retry(self.asgi, self.why, self.discarded)
            if inspect.isawaitable(result):
                await result
        finally:
            self._forget()

    def _forget(self) -> None:
        """Take back what it wrote to the cookie session, and let go of its error."""
        cookie_session.restore(self._cookies)
        self.exception = self.failure = self.why = self._around = None
