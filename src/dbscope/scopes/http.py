"""`DBSessionMiddleware`: a request is one transaction, and the answer tells the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from dbscope.scopes import background, decorating, exceptions
from dbscope.scopes.backoff import checked
from dbscope.scopes.request import RequestScope
from dbscope.scopes.request_state import with_session
from dbscope.scopes.routes import Routes
from dbscope.scopes.settle import close, used
from dbscope.scopes.websocket import WebSocketScope
from dbscope.unit.current import Scope, current, served
from dbscope.unit.hooks import is_async
from dbscope.unit.policy import BeforeRetry, CommitVeto, default_commit_veto
from dbscope.watch.dispatch import heard, tell_all
from dbscope.watch.events import ScopeEnded

if TYPE_CHECKING:
    from dbscope.scopes.asgi import ASGIApp, ASGIScope, Receive, Send


SCOPE = "dbscope"  # of an ASGI scope: the request that is served with it
SERVED = frozenset({"http", "websocket"})
BODY_LIMIT = 64 * 1024  # bytes


class DBSessionMiddleware:
    """Open one scope for each HTTP request; commit before the answer leaves, or roll back.

    A websocket has a scope, too, which autocommits: each message is given a transaction by
    `async with db.scope(): ...` or `@db.atomic`. It needs no list of databases: their units join
    the scope on first use. Where another of its kind serves the same request already (a mounted
    application), it does nothing. A scope that a test, or another request, has open around it is
    not joined.

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
        if scope["type"] not in SERVED:
            token = served.set(scope["type"])
            try:
                await self.app(scope, receive, send)
            finally:
                served.reset(token)
            return
        if (application := scope.get("app")) is not self._known:
            self._bind_app(application)
        if self.states:
            scope["state"] = with_session(scope.get("state", {}), self.states)
        known = scope.get(SCOPE)
        if known is not None and is_open(known()):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            socket = WebSocketScope(scope, receive, send)
            scope[SCOPE] = ref(socket)
            await socket.serve(self.app)
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
            if heard:
                tell_all(ScopeEnded, request)
            current.reset(token)
            if request.background:
                await background.run_behind(request)

    def _bind_app(self, application: Any) -> None:
        decorating.check_routes(application)
        self._known = application
        if application is not None:
            exceptions.install_at(application)


def is_open(request: Scope | None) -> bool:
    """Tell whether a request is still being served."""
    return request is not None and not request.closed


def check_veto(commit_veto: Any) -> None:
    """Raise TypeError for what cannot be asked whether to roll back."""
    if commit_veto is not None and not callable(commit_veto):
        raise TypeError(f"commit_veto must be a function or None, not {commit_veto!r}.")
    if commit_veto is not None and is_async(commit_veto):
        raise TypeError(f"commit_veto is called, not awaited; {commit_veto!r} is async.")
