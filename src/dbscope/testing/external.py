"""A database on a connection whose transaction somebody else has begun, and will roll back.

SQLAlchemy's recipe for test suites: what is committed is a savepoint on that connection
(https://docs.sqlalchemy.org/en/20/orm/session_transaction.html#joining-a-session-into-an-external-transaction-such-as-for-test-suites).
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
from typing import TYPE_CHECKING, Any, Never, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from dbscope.aio import threads
from dbscope.engine.engines import plain
from dbscope.errors import ConfigurationError, ScopeClosed, TransactionManagementError
from dbscope.testing.homes import Anywhere, InLoop
from dbscope.testing.keeper import Keeper
from dbscope.testing.line import PATIENCE, Line
from dbscope.testing.sandbox import Sandbox
from dbscope.unit import callsite

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from dbscope.engine.source import EngineSource

T = TypeVar("T")
LEVEL = "isolation_level"


def engine_on(given: Connection | AsyncConnection) -> Engine | AsyncEngine:
    """Return an engine of its own, whose connections will be savepoints on the one that is given.

    Raises:
        ConfigurationError: no transaction was begun on it, or it commits by itself.
    """
    connection = _plain(given)
    if connection.closed or not connection.in_transaction():
        raise ConfigurationError(
            "A database on a connection is a part of that one's transaction, and there is none. "
            "Begin it first: `await connection.begin()`, and roll it back at the end of the test."
        )
    if connection.get_execution_options().get(LEVEL) == "AUTOCOMMIT":
        raise ConfigurationError(
            "A database on a connection is a part of that one's transaction, and with "
            f"{LEVEL}='AUTOCOMMIT' there is none."
        )
    dialect = _fresh(connection.dialect)
    engine = Engine(NullPool(_nothing, dialect=dialect), dialect, connection.engine.url)
    return AsyncEngine(engine) if isinstance(given, AsyncConnection) else engine


def hold(source: EngineSource, given: Connection | AsyncConnection) -> None:
    """Let all that the database does be a part of the transaction of this connection."""
    sandboxes = source.sandboxes
    sandboxes.keeper = keeper = Given(source, given)
    sandbox = Sandbox(source, callsite.of_call())
    sandbox.line, sandbox.is_open = keeper.line(), True
    sandbox.line.enter(sandbox)
    sandboxes.begin(sandbox)


def _plain(given: Connection | AsyncConnection) -> Connection:
    found = given.sync_connection if isinstance(given, AsyncConnection) else given
    if found is None:
        raise ConfigurationError("The connection was not started: `await engine.connect()`.")
    return found


def _fresh(dialect: Any) -> Any:
    """Return a dialect that knows the server, and to which nobody has said anything else."""
    fresh = copy.copy(dialect)
    kind: Any = fresh.__class__
    said = [each for each in fresh.__dict__ if inspect.isfunction(getattr(kind, each, None))]
    for name in [*said, "dispatch"]:
        fresh.__dict__.pop(name, None)
    return fresh


def _nothing() -> Never:
    raise AssertionError  # its pool is replaced before it is asked


class Given(Keeper):
    """Keeps one line, on a connection of somebody else.

    Args:
        source: the database.
        given: the connection.
    """

    def __init__(self, source: EngineSource, given: Connection | AsyncConnection) -> None:
        connection = _plain(given)
        engine: Any = source.settings.engine
        self.prepare(source, plain(engine))
        is_async = isinstance(given, AsyncConnection)
        self.home = OfTest(cancels=self.rules.cancels) if is_async else Anywhere()
        self._line = GivenLine(self, connection)

    def line(self) -> Line:
        """Return the line, which is the only one."""
        return self._line

    def close(self) -> None:
        """Leave all to who has it."""


class GivenLine(Line):
    """The connection of somebody else, as long as their transaction is there.

    Args:
        keeper: who has made the line.
        connection: theirs.
    """

    def __init__(self, keeper: Given, connection: Connection) -> None:
        self.connection = connection
        super().__init__(keeper, keeper.engine, keeper.home, keeper.rules, self._given)
        self.has_written = True  # no transaction of ours is begun anew to write

    def _given(self) -> Any:
        self._check()
        return self.connection.connection

    @property
    def real(self) -> Any:
        """Return the connection of the driver.

        Raises:
            ScopeClosed: the transaction has ended, so what comes now would be another one's.
        """
        self._check()
        return super().real

    def _check(self) -> None:
        if self.connection.closed or not self.connection.in_transaction():
            raise ScopeClosed(
                f"The connection that {self.keeper.source} was given is no longer in the "
                "transaction that it came with. Make a database for each test."
            )

    def begin(self) -> None:
        """Begin the transaction where the driver has only said that it would."""
        if not self.rules.is_begun(self.real):
            super().begin()


class OfTest(InLoop):
    """The event loop that a test has its connection in; it is busy where the test blocks it.

    Raises:
        ConfigurationError: none runs.
    """

    def __init__(self, *, cancels: bool) -> None:
        loop = threads.running_loop()
        if loop is None:
            raise ConfigurationError(
                "A connection of an async driver belongs to an event loop, and none runs here: "
                "make the database in an async fixture."
            )
        super().__init__(loop, cancels=cancels)

    def _start(
        self, function: Callable[[], T], done: Future[T], tasks: list[asyncio.Task[T]]
    ) -> None:
        if not done.done():
            super()._start(function, done, tasks)

    def _hand_in(
        self, function: Callable[[], T], done: Future[T], tasks: list[asyncio.Task[T]]
    ) -> None:
        super()._hand_in(function, done, tasks)
        timer = threading.Timer(PATIENCE, _give_up, (done, tasks))
        timer.daemon = True
        timer.start()
        done.add_done_callback(lambda _: timer.cancel())


def _give_up(done: Future[Any], tasks: list[Any]) -> None:
    if not tasks and not done.done():
        done.set_exception(
            TransactionManagementError(
                "The event loop of the connection that the database was given is blocked, by a "
                "TestClient in an async test, say. Send requests from it: "
                "`httpx.AsyncClient(transport=ASGITransport(app))`, or use `db.sandbox()`."
            )
        )
