"""`DBSessionMiddleware`: a request is one transaction, and the answer tells the truth."""

from __future__ import annotations

import sys
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import ref

from dbscope.engine import carry
from dbscope.errors import ClientTimeout
from dbscope.scopes import answer, client, cookies, decorating, forgotten, unended, witness
from dbscope.scopes.attempts import checked
from dbscope.scopes.dependencies import Routes, refuse_override, route_choice
from dbscope.scopes.keep import is_marked, without_marks
from dbscope.scopes.settle import close, log_hooks, log_others, settled, used
from dbscope.scopes.state import with_session
from dbscope.unit import ending
from dbscope.unit.current import Scope, current, open_scope, served
from dbscope.unit.hooks import is_async
from dbscope.unit.policy import (
    FIRST_ERROR_STATUS,
    SAFE_METHODS,
    BeforeRetry,
    CommitVeto,
    Mode,
    default_commit_veto,
    keeps,
    mode,
    wants_atomic,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit

    Message = MutableMapping[str, Any]
    ASGIScope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    ASGIApp = Callable[[ASGIScope, Receive, Send], Awaitable[None]]


SCOPE = "dbscope"  # of an ASGI scope: the request that is served with it
BODY_LIMIT = 64 * 1024  # bytes
PATH = "/!$&'()*+,;=:@~"  # RFC 3986, 3.3: all that a path may have as it is


class DBSessionMiddleware:
    """Open one scope for each HTTP request; commit before the answer leaves, or roll back.

    It needs no list of databases: their units join the scope on first use. Where another of its
    kind serves the same request already (a mounted application), or a test has opened a scope
    around it, it does nothing.

    Args:
        app: the application.
        commit_veto: decides by status, headers and exception whether to roll back
            (see `default_commit_veto`); None: only an exception does.
        retry: how often a request may be done again, from its beginning, when its transaction has
            met another one (see `db.is_retryable`); a route may say otherwise by
            `@db.retry_requests`. `request.state.attempt` is 0, then 1, ...
        retry_body_limit: bytes; a request whose body is larger is not done again.
        before_retry: called before a request is done again, with its ASGI scope, the error, and
            the `http.response.start` that is discarded, or None; may be `async`.
        states: names on `request.state`, and the databases whose session they give.
    """

    opens_scopes = True

    def __init__(
        self,
        app: ASGIApp,
        *,
        commit_veto: CommitVeto | None = default_commit_veto,
        retry: int = 0,
        retry_body_limit: int = BODY_LIMIT,
        before_retry: BeforeRetry | None = None,
        states: dict[str, Any] | None = None,
    ) -> None:
        self.app = app
        self.retry = checked(retry, "retry", 0)
        self.retry_body_limit = retry_body_limit
        self.before_retry = before_retry
        check_veto(commit_veto)
        self.commit_veto = commit_veto
        self.states = states or {}
        self._known: Any = None

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            token = served.set(scope["type"])
            try:
                await self.app(scope, receive, send)
            finally:
                served.reset(token)
            return
        if (application := scope.get("app")) is not self._known:
            self._meet(application)
        if self.states:
            scope["state"] = with_session(scope.get("state", {}), self.states)
        known, outer = scope.get(SCOPE), open_scope()
        is_served = known is not None and is_open(known())
        if is_served or (outer is not None and is_of_test(outer, application)):
            await self.app(scope, receive, send)
            return
        if self.retry or Routes.retry:
            from dbscope.scopes.replay import serve

            await serve(self, scope, receive, send)
            return
        await self.serve(RequestScope(scope, send, self.commit_veto), receive)

    async def serve(self, request: RequestScope, receive: Receive) -> None:
        """Serve a request in this scope."""
        request.client_receive = receive
        request.asgi[SCOPE] = ref(request)
        token = current.set(request)
        try:
            await self.app(request.asgi, request.receive, request.send)
            units = used(request) if request.units else []
            if units or request.forgotten:
                await request.end_served(units)
        except BaseException as error:
            await request.end_failed(error)
        finally:
            request.closed = True
            if request.units or request.parent is not None:
                close(request)
            request.exception = None  # it refers to frames that refer to the request
            current.reset(token)

    def _meet(self, application: Any) -> None:
        decorating.check_routes(application)
        self._known = application
        if application is not None:
            witness.place_at(application)


def is_open(request: RequestScope | None) -> bool:
    """Tell whether a request is still being served."""
    return request is not None and not request.closed


def is_of_test(outer: Scope, application: Any) -> bool:
    """Tell whether a scope that is around a request is that of a test, which the request joins.

    It is of no other request, and of no middleware: there is none but ours that is so far out.
    """
    listed: Any = getattr(application, "user_middleware", ())
    is_outermost = not listed or getattr(listed[0].cls, "opens_scopes", False)
    return is_outermost and not any(isinstance(s, RequestScope) for s in outer.with_ancestors())


def check_veto(commit_veto: Any) -> None:
    """Raise TypeError for what cannot be asked whether to roll back."""
    if commit_veto is not None and not callable(commit_veto):
        raise TypeError(f"commit_veto must be a function or None, not {commit_veto!r}.")
    if commit_veto is not None and is_async(commit_veto):
        raise TypeError(f"commit_veto is called, not awaited; {commit_veto!r} is async.")


class RequestScope(Scope):
    """The scope of one HTTP request, and what stands between the application and its client."""

    exception: BaseException | None = None
    failure: BaseException | None = None
    started = False
    _around: BaseException | None = None
    mark: bytes | None = None  # of the response that `db.keep` was called for
    _cookies: cookies.Memory | None = None
    _client: client.Client | None = None
    client_receive: Receive
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
            self._cookies = cookies.remember(asgi)

    def __str__(self) -> str:
        return f"{self.asgi['method']} {quote(self.asgi['path'], safe=PATH, errors='replace')}"

    def mode_of(self, source: Source) -> Mode:
        """Return what this request is to a database: by its route, or by the setting."""
        refuse_override(self.asgi, source)
        chosen = route_choice(self.asgi, source)
        return chosen or mode(atomic=wants_atomic(source.atomic_requests, self.asgi))

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
            self._client = client.Client(self, self.client_receive)
        if self.started or self._client.is_heard:
            return self.client_receive()
        return self._client.receive()

    def send(self, message: Message) -> Awaitable[None]:
        """Commit before `http.response.start` leaves; let everything else pass."""
        if self.started:
            if not message.get("more_body", False):
                self.will_write = True  # background tasks are next
        elif message["type"] == "http.response.start":
            if self.units or self.inner or self.forgotten or self.failure is not None:
                return self._send_start(message)
            self._start(message)
        return self._send(message)

    async def _send_start(self, message: Message) -> None:
        await self._before_start(message)
        self._start(message)
        await self._send(message)

    def _start(self, message: Message) -> None:
        self.started = True
        self.forgotten = ()
        self.will_write = False
        message["headers"] = without_marks(message.get("headers", ()))

    async def _before_start(self, message: Message) -> None:
        if self.failure is not None and not self._tells(message, self.failure):
            raise self.failure
        if self.units or self.inner or self.forgotten:
            keep = is_marked(message, self.mark) or keeps(
                self._commit_veto, self.asgi, message, self._seen_exception()
            )
            if keep or message["status"] < FIRST_ERROR_STATUS:
                error = unended.error_of(self, self.inner) or forgotten.error_of(self)
                if error is not None:
                    await self._refuse(error)
            await self._settle(keep=keep)

    def _tells(self, message: Message, failure: BaseException) -> bool:
        """Tell whether the response is of the failure; of a body that is not there, any 400 is."""
        if isinstance(failure, ClientTimeout) and self._seen_exception() is not failure:
            return False
        return bool(message["status"] >= FIRST_ERROR_STATUS)

    async def _refuse(self, error: BaseException) -> None:
        """Roll back everything: something would end only after the answer, or is missing in it."""
        if units := used(self):
            errors, hook_errors = await settled(units, keep=False)
            log_others(errors, self)
            log_hooks(hook_errors, self)
        await self._fail([error])

    def _seen_exception(self) -> BaseException | None:
        # While a handler's response is sent, Python is still in the `except` that awaits it.
        seen = sys.exception()
        return self.exception or (None if seen is self._around else seen)

    async def _settle(self, *, keep: bool) -> None:
        if units := used(self):
            if keep:
                await carry.look_for_cancellation()
            errors, hook_errors = await settled(units, keep=keep)
            if hook_errors:
                log_hooks(hook_errors, self)
            if errors:
                await self._fail(errors)
        for unit in self.units.values():
            unit.renew()

    async def _fail(self, errors: list[BaseException]) -> None:
        self.failure, *others = errors
        log_others(others, self)
        # The application's handler for this error gets units of its own.
        failed, self.units = self.units, {}
        for unit in failed.values():
            ending.close(unit)
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
        never_awaited = forgotten.error_of(self)
        keep = not was_cancelled and never_awaited is None
        errors, hook_errors = await settled(units, keep=keep) if units else ([], [])
        log_hooks(hook_errors, self)
        if never_awaited is not None:
            errors.insert(0, never_awaited)
        if errors:
            raise errors[0]

    async def end_failed(self, error: BaseException) -> None:
        """Roll back what is left; answer, if that has not begun, or let the error go on."""
        await self._drop_rest()
        try:
            await self._answer(error)
        finally:
            await self._drop_rest()
            # They refer to the frames that refer to us, until the garbage collector comes.
            self.exception = self.failure = self._around = None

    async def _answer(self, error: BaseException) -> None:
        if self.started or not isinstance(error, Exception):
            raise error
        cookies.restore(self._cookies)
        failure = self.failure or error
        has_handler = self.failure is not None and answer.handler_of(self.asgi, failure)
        if not has_handler and await answer.of_ours(failure, self._send):
            return
        if self.failure is not None:
            self.exception = failure  # which a task group may have wrapped
            await answer.by_handler(self.asgi, self.failure, self.send)
            if units := used(self):
                await self.end_tail(units)
        else:
            raise error

    async def _drop_rest(self) -> None:
        if units := used(self):
            errors, hook_errors = await settled(units, keep=False)
            log_others(errors, self)
            log_hooks(hook_errors, self)
