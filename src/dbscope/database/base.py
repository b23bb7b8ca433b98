"""What both kinds of database share: all that needs no waiting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Generic, Literal, Never, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from typing_extensions import TypeVar

from dbscope import arguments
from dbscope.backends import conflicts
from dbscope.backends.base import Backend
from dbscope.database.hooks import HasHooks
from dbscope.database.sandboxing import HasSandboxes
from dbscope.engine import options
from dbscope.engine import url as urls
from dbscope.engine.settings import OF_KIND, SessionSettings, Settings, for_other_kind
from dbscope.engine.source import EngineSource
from dbscope.errors import ConfigurationError, Rollback
from dbscope.masking import masked
from dbscope.once import requests as keyed
from dbscope.once.idempotency import Idempotency
from dbscope.scopes import guards, lifespan
from dbscope.scopes.background import Background
from dbscope.scopes.marks import Marks
from dbscope.scopes.settle import raise_first, run_hooks
from dbscope.unit import callsite, forgotten
from dbscope.unit.block import Block
from dbscope.unit.current import unit_of
from dbscope.unit.no_session import NoSession
from dbscope.unit.policy import (
    AtomicRequests,
    BeforeRetry,
    CommitVeto,
    default_commit_veto,
)
from dbscope.unit.unit import Unit
from dbscope.watch.database import Watched

H = TypeVar("H")  # what people hold: a Session or an AsyncSession
F = TypeVar("F", bound=Callable[..., Any])

Options = Mapping[str, Any]
NONE: Options = {}


class CommonDatabase(
    Marks, keyed.KeyedRoutes, Watched, Background, HasHooks, HasSandboxes, NoSession, Generic[H]
):
    """The base of `Database` and `AsyncDatabase`."""

    _source: EngineSource

    is_async: ClassVar[bool]
    usual_session: ClassVar[type[Any]]
    Rollback = Rollback

    def __init__(
        self,
        url: urls.Address | None = None,
        *,
        name: str = "default",
        atomic_requests: AtomicRequests = True,
        engine: Engine | AsyncEngine | Connection | AsyncConnection | None = None,
        engine_options: Options | None = None,
        session_options: Options | None = None,
        session_class: type[H] | None = None,
        manual_commit: Literal["allow", "forbid"] = "allow",
        verify_commit: bool = False,
        session_settings: SessionSettings | None = None,
        idle_limit: float | None = None,
        client_wait: float | None = 5.0,
        retry_codes: Collection[str] = (),
        reset_session: bool = False,
        allow_async_unsafe: bool = False,
        _companion: bool = False,
        **unknown: Never,
    ) -> None:
        if unknown:
            self._refuse(unknown)
        arguments.check(f"engine of {type(self).__name__}", engine, OF_KIND[self.is_async])
        if (url is None) is (engine is None):
            which = "neither was given" if url is None else "not both"
            raise ConfigurationError(f"{type(self).__name__} needs a URL or an engine; {which}.")
        given = self._engine_of(engine)
        if given is not None:
            url = given.url
        assert url is not None
        if self.is_async:
            forgotten.watch()
        self.url = urls.parse(url)
        self.made_at = callsite.here()
        self.name = name
        self._settings = Settings(
            name=name,
            atomic_requests=atomic_requests,
            engine=given,
            engine_options=engine_options or NONE,
            session_options=session_options or NONE,
            session_class=session_class,
            manual_commit=manual_commit,
            verify_commit=verify_commit,
            session_settings=session_settings,
            idle_limit=idle_limit,
            client_wait=client_wait,
            retry_codes=retry_codes,
            reset_session=reset_session,
            allow_async_unsafe=allow_async_unsafe,
        )
        self._source = EngineSource(
            urls.for_kind(self.url, is_async=self.is_async, companion=_companion),
            self._settings,
            is_async=self.is_async,
            session_class=session_class or self.usual_session,
            run_pending_hooks=_run_pending_hooks,
        )
        self._stay_on(engine)

    def _refuse(self, unknown: Mapping[str, Any]) -> Never:
        own = arguments.names_of(type(self).__init__)[1:]
        homes = options.homes(is_async=self.is_async)
        raise TypeError(arguments.unknown(type(self).__name__, unknown, own, homes))

    def _for_companion(self) -> dict[str, Any]:
        """Return the settings that the database of the other kind has too."""
        own = {"engine", "session_class"}
        names = [each.name for each in fields(Settings) if each.name not in own]
        settings = {name: getattr(self._settings, name) for name in names}
        return settings | for_other_kind(self._settings, is_async=self.is_async)

    @property
    def backend(self) -> Backend:
        """What is particular to this database, for tools."""
        return self._source.backend

    # -- the session ---------------------------------------------------------------------------

    @property
    def session(self) -> H:
        """The session of the current scope; nothing is opened by taking it.

        Raises:
            ScopeMissing: outside any scope.
            ScopeClosed: the scope has ended.
        """
        return cast("H", unit_of(self._source).open_session())

    async def get_session(self) -> H:
        """Return the session of the current scope, as a FastAPI dependency.

        A coroutine, and no generator: nothing of it runs after the endpoint, and no thread is
        taken for it.

        Example:
            >>> SessionDep = Annotated[AsyncSession, Depends(db.get_session)]
        """
        return self.session

    # -- blocks --------------------------------------------------------------------------------

    def in_transaction(self) -> bool:
        """Tell whether there is a transaction here, even if nothing was sent for it yet."""
        return self.current_transaction() is not None

    def current_transaction(self) -> Block | None:
        """Return the innermost block, or None outside a transaction."""
        unit = guards.unit_here(self._source)
        return None if unit is None else unit.block

    def set_rollback(self, rollback: bool = True) -> None:
        """Roll the innermost block back quietly when it is left (Django's `set_rollback`).

        Args:
            rollback: False takes that back, and forgets a failed statement: only after rolling
                back to a savepoint of your own.

        Raises:
            TransactionRequired: outside a transaction.
        """
        guards.set_rollback(self._source, guards.required_block(self._source), rollback=rollback)

    def doom(self) -> None:
        """Roll back all that the scope does in this database, but keep the response.

        It is pyramid's word. What is done in another database is another unit of work, and kept.

        Raises:
            ScopeMissing: outside any scope.
        """
        guards.doom(self._source)

    def is_retryable(self, error: BaseException) -> bool:
        """Tell whether the work that failed may succeed if all of it is done again.

        By SQLSTATE and native codes, never by the words of a message: serialization failures and
        deadlocks, SQLITE_BUSY, SQLAlchemy's `StaleDataError`, and errors of ours which those have
        caused. Never `TransactionOutcomeUnknown`.
        """
        return conflicts.is_retryable(error, self._source.retry_codes)

    # -- wiring --------------------------------------------------------------------------------

    def install(
        self,
        app: Any,
        *,
        state_key: str | None = None,
        commit_veto: CommitVeto | None = default_commit_veto,
        retry: int = 0,
        before_retry: BeforeRetry | None = None,
        idempotency: bool | Idempotency = False,
    ) -> None:
        """Wire a Starlette or FastAPI application: `DBSessionMiddleware`, and an orderly end.

        Idempotent. Middlewares added later are outside of it, where CORS, sessions and Sentry
        belong.

        Args:
            app: the application, before it has started.
            state_key: `request.state.<state_key>` gives the session too.
            commit_veto: see `DBSessionMiddleware`.
            retry: how often a request may be done again; see `DBSessionMiddleware`.
            before_retry: called before that; see `DBSessionMiddleware`.
            idempotency: True, or what is to be different: requests may have an `Idempotency-Key`.
        """
        lifespan.install(
            app,
            self,
            state_key=state_key,
            commit_veto=commit_veto,
            retry=retry,
            before_retry=before_retry,
        )
        keyed.install(app, self, idempotency)

    def stats(self) -> dict[str, int]:
        """Return counters since the start, and the state of the pool, as one flat dict."""
        return self._source.stats()

    def watch_idle(self, seconds: float) -> None:
        """Warn of who sits longer in a transaction without a statement, unless a limit is set.

        Args:
            seconds: the limit.
        """
        if self._source.idle_limit is None:
            self._source.idle_limit = seconds

    # -- inside --------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {masked(self.url)}>"

    def __str__(self) -> str:
        return str(self._source)


def _run_pending_hooks(unit: Unit) -> None:
    raise_first(run_hooks(unit))
