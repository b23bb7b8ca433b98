"""The scope of one HTTP request: it ends before the answer leaves, as the answer says."""

from __future__ import annotations

import sys
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from dbscope.aio import shield
from dbscope.errors import ClientTimeout
from dbscope.scopes import client, cookie_session, error_response, unended
from dbscope.scopes.asgi import path_of
from dbscope.scopes.keep import is_marked, without_marks
from dbscope.scopes.routes import refuse_override, route_choice
from dbscope.scopes.settle import decided, have_work, log_hooks, log_others, settled, used
from dbscope.unit import callsite, finish
from dbscope.unit.current import Scope, current, open_scope
from dbscope.unit.policy import (
    FIRST_ERROR_STATUS,
    SAFE_METHODS,
    CommitVeto,
    Mode,
    keeps,
    mode,
    wants_atomic,
)
from dbscope.watch.dispatch import heard, tell_all
from dbscope.watch.events import Answered, SuccessRolledBack

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from dbscope.scopes.asgi import ASGIScope, Message, Send
    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit


CONTENT_TYPE = b"content-type"
EVENTS = b"text/event-stream"  # each of which has what it asks the database for itself


class RequestScope(client.ClientScope):
    """The scope of one HTTP request, and what stands between the application and its client."""

    kind = "request"
    exception: BaseException | None = None
    _around: BaseException | None = None
    _headers: Any = ()  # of the response that has started
    mark: bytes | None = None  # of the response that `db.keep` was called for
    _cookies: cookie_session.Memory | None = None
    _client: client.Client | None = None
    _reader: client.Reader | None = None
    inner: dict[Scope, unended.Opener] | None = None  # what was opened in it, and has not ended

    def __init__(self, asgi: ASGIScope, send: Send, commit_veto: CommitVeto | None) -> None:
        self.asgi = asgi
        self.units = {}
        self.will_write = asgi["method"] not in SAFE_METHODS
        self._send = send
        self._commit_veto = commit_veto
        if (outer := open_scope()) is not None:
            # Of a middleware further out, or of the request that makes this one: it is not joined,
            # since it would decide when this one commits, and whether.
            self.parent = outer
            outer.note_opened(self)
        if (around := sys.exception()) is not None:
            self._around = around
        if "session" in asgi:
            self._cookies = cookie_session.remember(asgi)

    def __str__(self) -> str:
        return f"{self.asgi['method']} {path_of(self.asgi)}"

    def mode_of(self, source: Source) -> Mode:
        """Return what this request is to a database: by its route, or by the setting."""
        refuse_override(self.asgi, source)
        chosen = route_choice(self.asgi, source)
        route = self.asgi.get("route")
        if not self.started and getattr(route, "is_sse_stream", False):
            self.is_watched = True
        if self._sends_events():
            return Mode.READONLY if chosen is Mode.READONLY else Mode.AUTOCOMMIT
        return chosen or mode(atomic=wants_atomic(source.atomic_requests, self.asgi))

    def is_ahead(self) -> bool:
        """Tell whether the running code makes the body: FastAPI's events begin before the start.

        What it does belongs to the tail, so it waits; the request's own work is committed first.
        """
        return not self.started and any(map(unended.makes_body, callsite.frames()))

    def is_read_behind(self) -> bool:
        """Tell whether its answer is still to leave, with a body that may read on."""
        return not self.started

    def _sends_events(self) -> bool:
        """Tell whether its tail is server-sent events, which may go on for a day."""
        for name, value in self._headers:
            if len(name) == len(CONTENT_TYPE) and name.lower() == CONTENT_TYPE:
                return bool(value.partition(b";")[0].strip().lower() == EVENTS)
        return False

    def note_opened(self, inner: Scope) -> None:
        """Note a scope that was opened inside, and who has opened it."""
        if self.started or self.closed or unended.is_in_body():
            return
        if self.inner is None:
            self.inner = {}
        self.inner[inner] = unended.opener()

    def note_ended(self, inner: Scope) -> None:
        """Forget a scope that has ended."""
        if self.inner:
            self.inner.pop(inner, None)

    def receive(self) -> Awaitable[Message]:
        """Wait for the client, and not for ever while a transaction is open."""
        if self._client is None:
            self._client = client.Client(self)
        if self.started or self._client.is_heard:
            return self.client_receive()
        return self._client.receive()

    def send(self, message: Message) -> Awaitable[None]:
        """Commit before `http.response.start` leaves; let everything else pass."""
        if self.started:
            is_last = not message.get("more_body", False)
            if is_last:
                self.will_write = True  # background tasks are next
            if self._may_hold(is_last=is_last):
                return self._send_on(message)
        elif message["type"] == "http.response.start":
            if self.units or self.inner or self.forgotten or self.failure is not None:
                return self._send_start(message)
            self._start(message)
            self._tell_answered(message)
        return self._send(message)

    def _may_hold(self, *, is_last: bool) -> bool:
        """Tell whether a transaction may be open while a piece of the body is sent.

        Before the last one, another task may begin it meanwhile.
        """
        if current.get() is not self:
            return True
        if not is_last:
            return bool(self.units)
        return any(unit.connection is not None for unit in self.units.values())

    async def _send_on(self, message: Message) -> None:
        """Send of the body, and let no transaction wait for ever until the client reads it."""
        if self._reader is None:
            self._reader = client.Reader(self)
        await self._reader.waited_for(self._send(message))

    async def _send_start(self, message: Message) -> None:
        await self._before_start(message)
        self._start(message)
        for unit in self.units.values():
            unit.renew(atomic=not self._sends_events())
        self._tell_answered(message)
        await self._send(message)

    def _tell_answered(self, message: Message) -> None:
        """Tell those who listen that the answer leaves, when the work before it is told."""
        if heard:
            tell_all(Answered, self, message["status"])

    def _start(self, message: Message) -> None:
        self.started = True
        self.is_watched = bool(self.strays)
        self.forgotten = ()
        self.will_write = False
        message["headers"] = self._headers = without_marks(message.get("headers", ()))

    async def _before_start(self, message: Message) -> None:
        if self.failure is not None and not self._tells(message, self.failure):
            raise self.failure
        if self.units or self.inner or self.forgotten:
            keep = is_marked(message, self.mark) or keeps(
                self._commit_veto, self.asgi, message, self._seen_exception()
            )
            if keep or message["status"] < FIRST_ERROR_STATUS:
                error = unended.error_of(self, self.inner) or self.never_awaited()
                if error is not None:
                    await self._refuse(error)
            if not keep:
                self._tell_rolled_back(message["status"])
            if heard:
                seen, status = self._seen_exception(), message["status"]
                decided(self.units.values(), keep=keep, error=seen, status=status)
            await self._settle(keep=keep)

    def _tell_rolled_back(self, status: int) -> None:
        """Tell of an exception that is answered as if all were well: nobody else would know."""
        error = self._seen_exception()
        if error is not None and status < FIRST_ERROR_STATUS and have_work(self.units.values()):
            tell_all(SuccessRolledBack, self, status, error)

    def _tells(self, message: Message, failure: BaseException) -> bool:
        """Tell whether the response is of the failure; of a body that is not there, any 400 is."""
        if isinstance(failure, ClientTimeout) and self._seen_exception() is not failure:
            return False
        return bool(message["status"] >= FIRST_ERROR_STATUS)

    async def _refuse(self, error: BaseException) -> None:
        """Roll back everything: something would end only after the answer, or is missing in it."""
        await self._drop_rest(error)
        await self._fail([error])

    def _seen_exception(self) -> BaseException | None:
        # While a handler's response is sent, Python is still in the `except` that awaits it.
        seen = sys.exception()
        return self.exception or (None if seen is self._around else seen)

    async def _settle(self, *, keep: bool) -> None:
        if units := used(self):
            if keep:
                await shield.checkpoint()
            errors, hook_errors = await settled(units, keep=keep)
            if hook_errors:
                log_hooks(hook_errors, self)
            if errors:
                await self._fail(errors)

    async def _fail(self, errors: list[BaseException]) -> None:
        self.failure, *others = errors
        log_others(others, self)
        # The application's handler for this error gets units of its own.
        failed, self.units = self.units, {}
        for unit in failed.values():
            finish.close(unit)
        raise self.failure

    async def end_served(self, units: list[Unit]) -> None:
        """End what the application is done with; without an answer, nothing was promised."""
        if self.started:
            await self.end_tail(units)
        else:
            await self._drop_rest()

    async def end_tail(self, units: list[Unit]) -> None:
        """Commit what was done after the response had started, unless the client went away."""
        was_cancelled = any(isinstance(unit.fault, CancelledError) for unit in units)
        half_read = unended.half_read(units)
        refused = self.never_awaited() or (half_read if have_work(units) else None)
        keep = not was_cancelled and half_read is None and refused is None
        if heard:
            decided(units, keep=keep, error=refused)
        errors, hook_errors = await settled(units, keep=keep) if units else ([], [])
        log_hooks(hook_errors, self)
        if refused is not None:
            errors.insert(0, refused)
        if errors:
            raise errors[0]

    async def end_failed(self, error: BaseException) -> None:
        """Roll back what is left; answer, if that has not begun, or let the error go on."""
        await self._drop_rest(error)
        try:
            await self._answer(error)
        finally:
            await self._drop_rest()
            # They refer to the frames that refer to us, until the garbage collector comes.
            self.exception = self.failure = self._around = None

    async def _answer(self, error: BaseException) -> None:
        if self.started or not isinstance(error, Exception):
            raise error
        cookie_session.restore(self._cookies)
        failure = self.failure or error
        has_handler = self.failure is not None and error_response.handler_of(self.asgi, failure)
        if not has_handler and await error_response.of_ours(
            failure, self._send_ours, stored=self.stored
        ):
            return
        if self.failure is not None:
            self.exception = failure  # which a task group may have wrapped
            await error_response.by_handler(self.asgi, self.failure, self.send)
            if units := used(self):
                await self.end_tail(units)
        else:
            raise error

    def _send_ours(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            tell_all(Answered, self, message["status"])
        return self._send(message)

    async def _drop_rest(self, error: BaseException | None = None) -> None:
        if units := used(self):
            decided(units, keep=False, error=error)
            errors, hook_errors = await settled(units, keep=False)
            log_others(errors, self)
            log_hooks(hook_errors, self)
