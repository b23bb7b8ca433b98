"""Wire a database into an application: the middleware, and its connections closed at shutdown."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from dbscope import arguments
from dbscope.arguments import Rule
from dbscope.scopes import unread
from dbscope.scopes.backoff import checked
from dbscope.scopes.decorating import check_routes
from dbscope.scopes.http import DBSessionMiddleware, check_veto
from dbscope.scopes.routes import sources_of
from dbscope.unit.current import installed
from dbscope.unit.policy import BeforeRetry, CommitVeto, default_commit_veto

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

IDLE_LIMIT_IN_DEBUG = 1.0  # seconds


APPLICATION = Rule(
    "a Starlette or FastAPI application",
    lambda value: hasattr(value, "user_middleware"),
    lambda value: (
        "Install it into the application that includes the router."
        if hasattr(value, "routes") and not isinstance(value, type)
        else None
    ),
)


def install(
    app: Any,
    database: Any,
    *,
    state_key: str | None = None,
    commit_veto: CommitVeto | None = default_commit_veto,
    retry: int = 0,
    before_retry: BeforeRetry | None = None,
) -> None:
    """Add the middleware to a Starlette or FastAPI application, and the end of the database."""
    arguments.check("app", app, APPLICATION, TypeError)
    check_veto(commit_veto)
    checked(retry, "retry", 0)
    arguments.check("before_retry", before_retry, arguments.or_none(arguments.FUNCTION), TypeError)
    arguments.check("state_key", state_key, arguments.WORD, TypeError)
    settings = _middleware_of(app, commit_veto).kwargs
    if retry:
        settings["retry"] = retry
    if before_retry is not None:
        settings["before_retry"] = before_retry
    states = settings["states"]
    if state_key is not None:
        states[state_key] = database
    here: set[Any] = cast("Any", vars(app)).setdefault("dbscope_installed", set())
    if database not in here:
        here.add(database)
        installed.update(sources_of(database))
        unread.refuse()
        if getattr(app, "debug", False):
            database.watch_idle(IDLE_LIMIT_IN_DEBUG)
        app.router.lifespan_context = _with_disposal(app.router.lifespan_context, database)


def _middleware_of(app: Any, commit_veto: CommitVeto | None) -> Any:
    for middleware in app.user_middleware:
        if middleware.cls is DBSessionMiddleware:
            middleware.kwargs.setdefault("states", {})
            return middleware
    app.add_middleware(DBSessionMiddleware, commit_veto=commit_veto, states={})
    return app.user_middleware[0]


def _with_disposal(lifespan: Any, database: Any) -> Any:
    @asynccontextmanager
    async def with_disposal(app: Any) -> AsyncGenerator[Any, None]:
        check_routes(app)
        async with database.lifespan(app), lifespan(app) as state:
            yield state

    return with_disposal
