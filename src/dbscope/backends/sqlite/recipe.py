"""SQLite by one exact recipe: our own BEGIN, a write queue, and a way to interrupt.

The driver is in autocommit, and BEGIN is sent when a transaction begins: else SELECT, SAVEPOINT
and DDL stay outside of it (https://github.com/python/cpython/issues/54133). What will write says so
at once by BEGIN IMMEDIATE, because a read lock that must become a write lock fails without waiting
(https://sqlite.org/rescode.html#busy_snapshot).
"""

from __future__ import annotations

import sqlite3
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool
from sqlalchemy.util import await_only

from dbscope.backends import errors
from dbscope.backends.sandbox import is_sandboxed, real_of
from dbscope.backends.sqlite import replaced
from dbscope.sqlite_inline import files, pysqlite
from dbscope.sqlite_inline.connection import InlineConnection

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

BUSY_TIMEOUT = 5.0  # seconds
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)

AT_ONCE = 0.05  # seconds: what took longer has waited already
STANDARD = frozenset({"pysqlite", "inline"})  # drivers that are the standard library's `sqlite3`


def engine_options(url: URL, *, is_async: bool) -> dict[str, Any]:
    """Return what `create_engine` needs for the recipe."""
    options: dict[str, Any] = {"connect_args": {"isolation_level": None}}
    if "timeout" not in url.query:
        options["connect_args"]["timeout"] = BUSY_TIMEOUT
    if not is_async and url.get_driver_name() in STANDARD:  # another one has classes of its own
        options["connect_args"]["factory"] = pysqlite.Connection
    if url.get_driver_name() == "aiosqlite":
        options["connect_args"]["async_creator_fn"] = _connect_aiosqlite
    if files.is_memory(url):
        # One connection, which all take in turn: a second one would be another, empty database.
        options |= {"poolclass": AsyncAdaptedQueuePool if is_async else QueuePool}
        options |= {"pool_size": 1, "max_overflow": 0}
        options["connect_args"]["check_same_thread"] = False
    return options


def _connect_aiosqlite(*args: Any, **kwargs: Any) -> Any:
    from dbscope.backends.sqlite.aiosqlite import connect

    return connect(*args, **kwargs)


def install(engine: Engine) -> None:
    """Make an engine follow the recipe: once for its life."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:  # noqa: ARG001
        if isinstance(connection, InlineConnection):
            # Two tasks with one session would get along, as long as their statements are short.
            connection.waits = True
        elif connection.isolation_level is not None:  # an engine that was made elsewhere
            connection.isolation_level = None
        set_up(connection)

    file = files.path_of(engine.url)
    if file is not None:
        replaced.watch(engine, file)

    @event.listens_for(engine, "reset")
    def on_reset(connection: Any, record: Any, state: Any) -> None:
        if record.info.pop("dbscope.refuses for now", False):
            connection.cursor().execute("PRAGMA query_only=OFF")
        if state.asyncio_safe:
            _end_reading(connection)

    if not is_inline(engine):  # which knows the statements that it is given
        _listen_for_begin(engine)


def set_up(connection: Any) -> None:
    """Tell a new connection what the recipe wants.

    Raises:
        DatabaseUnavailable: somebody else has the file for himself.
    """
    cursor = connection.cursor()
    try:
        for pragma in PRAGMAS:
            while not _tell(cursor, pragma, connection):
                _wait_until_nobody_writes(connection)
    except sqlite3.OperationalError as error:
        if errors.is_locked(error):
            raise errors.locked("A new connection", error) from error
        raise
    finally:
        cursor.close()


def _tell(cursor: Any, pragma: str, connection: Any) -> bool:
    """Tell it; return whether that is done, or is to be tried again.

    SQLite refuses at once to change the journal while another one writes: that change has read
    before, and who reads does not wait to write (https://sqlite.org/c3ref/busy_handler.html). Our
    own driver waits for whatever is refused.
    """
    began = monotonic()
    try:
        cursor.execute(pragma)
    except sqlite3.OperationalError as error:
        is_at_once = monotonic() - began < AT_ONCE
        if errors.is_locked(error) and is_at_once and not isinstance(connection, InlineConnection):
            return False
        if not errors.is_refused_write(error):  # as `mode=ro` does: its journal stays as it is
            raise
    return True


def _wait_until_nobody_writes(connection: Any) -> None:
    """Wait for the lock, no longer than the busy timeout.

    By one call: whoever is cancelled meanwhile holds nothing.
    """
    driver = getattr(connection, "driver_connection", connection)
    result = driver.executescript("BEGIN EXCLUSIVE; ROLLBACK")
    if isawaitable(result):
        await_only(result)


def _end_reading(connection: Any) -> None:
    """Close what is half read: whoever came next would see the snapshot that it was begun with."""
    inline = isinstance(connection, InlineConnection)
    reader = connection if inline else getattr(connection, "driver_connection", connection)
    if hasattr(reader, "end_reading") and (ending := reader.end_reading()) is not None:
        await_only(ending)


def _listen_for_begin(engine: Engine) -> None:
    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A unit's transaction is begun a moment later, when it is known whose it is.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.info["dbscope.begin"] = True

    @event.listens_for(engine, "before_cursor_execute")
    def before_statement(connection: Connection, *args: Any) -> None:  # noqa: ARG001
        if connection.info.get("dbscope.begin"):
            begin(connection, immediate=False)


def is_inline(engine: Engine) -> bool:
    """Tell whether the driver is our own."""
    return engine.dialect.driver == "inline"


def inline_of(connection: Connection) -> InlineConnection | None:
    """Return the connection of our own driver, if it is one."""
    found: Any = real_of(connection.connection.dbapi_connection)
    return found if isinstance(found, InlineConnection) else None


def refuse_writes(connection: Any) -> None:
    """Make a new connection one that cannot write (https://sqlite.org/pragma.html#pragma_query_only)."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def refuse_writes_for_now(connection: Connection) -> None:
    """Make the only connection of a database one that cannot write, until it is given back."""
    connection.exec_driver_sql("PRAGMA query_only=ON").close()
    connection.info["dbscope.refuses for now"] = True


def has_begun(connection: Connection) -> bool:
    """Tell whether a transaction was begun of which SQLite does not know yet."""
    inline = inline_of(connection)
    return connection.info.get("dbscope.begin", False) if inline is None else inline.pending


def skip_begin(connection: Connection) -> None:
    """Send no BEGIN after all: a statement alone is its own transaction."""
    inline = inline_of(connection)
    if inline is None:
        connection.info.pop("dbscope.begin", None)
    else:
        inline.pending = False


def begin(connection: Connection, *, immediate: bool, scope: object = None) -> None:
    """Send BEGIN by the shortest way that the driver has.

    A cursor of SQLAlchemy's adapter would take three turns of aiosqlite's thread instead of one.

    Args:
        connection: in a transaction of SQLAlchemy's.
        immediate: with the lock to write.
        scope: who begins, for messages.

    Raises:
        DatabaseUnavailable: somebody else holds the lock for longer than the busy timeout.
        OperationalError: it failed otherwise.
    """
    if is_sandboxed(connection):
        connection.info.pop("dbscope.begin", None)
        return
    statement = "BEGIN IMMEDIATE" if immediate else "BEGIN"
    inline = inline_of(connection)
    try:
        if inline is not None:
            inline.begin(immediate=immediate)
            inline.writer.scope = scope if immediate else None
        else:
            del connection.info["dbscope.begin"]
            driver: Any = connection.connection.driver_connection
            result = driver.execute(statement)
            if isawaitable(result):
                await_only(result)
    except sqlite3.Error as error:
        if scope is not None and errors.is_locked(error):
            raise errors.locked(scope, error) from error
        raise OperationalError(statement, None, error) from error
    except BaseException:
        interrupt(connection)
        connection.invalidate()
        raise


def interrupt(connection: Connection) -> None:
    """Stop the statement that a cancelled task has left running in aiosqlite's thread.

    Else it goes on, holding the write lock, and nothing tells it that nobody waits any more.
    """
    driver = connection.connection.driver_connection
    connected: sqlite3.Connection | None = getattr(driver, "_connection", None)
    if connected is not None:
        connected.interrupt()
