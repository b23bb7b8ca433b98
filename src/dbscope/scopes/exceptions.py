"""Who saw an exception leave the endpoint, even if a handler has turned it into a response."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from dbscope.scopes.routes import Routes
from dbscope.unit.current import current
from dbscope.unit.hooks import is_async

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbscope.scopes.asgi import ASGIApp, ASGIScope

HANDLERS = "starlette.exception_handlers"


def note(error: Exception) -> None:
    """Tell the request of the running code that an exception left its endpoint."""
    request: Any = current.get()
    if hasattr(request, "exception"):
        request.exception = error


class Witness:
    """A thin layer around the router.

    While the response of an exception handler is sent, `sys.exception()` still shows the
    exception; a `BaseHTTPMiddleware` in between sends from another task, and cuts that sight.
    Here every exception passes: it leaves the router, or a handler that the router looks up.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._seen: Any = None
        self._witnessed: Any = None

    async def __call__(self, scope: ASGIScope, receive: Any, send: Any) -> None:
        """Serve one ASGI scope, and see what leaves the router."""
        handlers = scope.get(HANDLERS)
        if handlers is not None:
            # Starlette makes a new pair for each request, of the same two dicts.
            if self._seen is None or self._seen[0] is not handlers[0]:
                self._bind_app(handlers)
            scope[HANDLERS] = self._witnessed
        try:
            if Routes.around is None:
                await self.app(scope, receive, send)
            else:
                await Routes.around(self.app, scope, receive, send)
        except Exception as error:
            note(error)
            raise

    def _bind_app(self, handlers: Any) -> None:
        self._seen = handlers
        self._witnessed = tuple(
            {key: witnessed(handler) for key, handler in by_key.items()} for by_key in handlers
        )


def witnessed(handler: Any) -> Any:
    """Return the exception handler, preceded by a note of what it handles."""
    if is_async(handler):

        @functools.wraps(handler)
        async def handle_async(connection: Any, error: Exception) -> Any:
            note(error)
            return await handler(connection, error)

        return handle_async

    @functools.wraps(handler)
    def handle(connection: Any, error: Exception) -> Any:
        note(error)
        return handler(connection, error)

    return handle


_with_witness: WeakSet[Any] = WeakSet()


def install_at(app: Any) -> None:
    """Put the layer around the router of a Starlette application, and of those mounted in it."""
    if app in _with_witness:
        return
    _with_witness.add(app)
    router: Any = getattr(app, "router", None)
    if hasattr(router, "middleware_stack"):
        router.middleware_stack = Witness(router.middleware_stack)
        for mounted in _mounted(router.routes):
            install_at(mounted)


def _mounted(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        app = _behind_middleware(getattr(route, "app", None))
        if hasattr(app, "router"):
            yield app
        else:
            yield from _mounted(getattr(route, "routes", None) or ())


def _behind_middleware(app: Any) -> Any:
    """Return the application that middlewares are around: each has the next one as its `app`."""
    while not hasattr(app, "router") and hasattr(app, "app"):
        app = app.app
    return app
