"""The rest of a result that is read in pieces, when its connection is to do something else.

Both drivers would read it to its end before they say anything: perhaps for hours, and in one thread
while whoever makes the body of a response reads the same socket in another, so that one of the two
waits for ever. Whoever reads on would then be told that there are no more rows. So the query is
ended instead, and for a ROLLBACK the connection given up, which the server takes as one; the reader
gets an error.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy.engine.cursor import BufferedRowCursorFetchStrategy
from sqlalchemy.util import await_only

from dbscope.backends import errors
from dbscope.backends.driver import WAYS
from dbscope.backends.mysql import kill
from dbscope.backends.mysql.drivers import has_rest
from dbscope.errors import TransactionManagementError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Dialect, Engine

MISSING = (
    "Rows are missing from a result that is read in pieces: another statement was sent on its "
    "connection, or its transaction has ended, and MySQL and MariaDB have one result at a time. "
    "Read all of it before, load what belongs to its rows with it (`selectinload`), or use another "
    "scope for what is done in between."
)
READER = "dbscope.reader"  # in the info of a connection: who reads in pieces, and what
READING = ("SELECT", "WITH", "(", "TABLE", "VALUES", "SHOW")  # half of another might be undone


class ReadInPieces(BufferedRowCursorFetchStrategy):
    """Reads a result in pieces, and says so if somebody else has read what follows."""

    __slots__ = ("__weakref__", "_is_at_end", "_rest", "is_cut")

    def __init__(self, cursor: Any, options: Any, rest: Any) -> None:
        self.is_cut = False  # by another thread perhaps, in the middle of a fetch
        super().__init__(cursor, options)
        self._rest, self._is_at_end = rest, not has_rest(rest)

    def look_ahead(self, cursor: Any) -> None:
        """Read one more row: perhaps there is none, so that nothing is lost."""
        self._rowbuffer.extend(cursor.fetchmany(1))
        self._is_at_end = not has_rest(self._rest)

    def fetchone(self, *args: Any, **kwargs: Any) -> Any:
        """Give a row."""
        return self._give(super().fetchone, args, kwargs)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Give rows."""
        return self._give(super().fetchmany, args, kwargs)

    def fetchall(self, *args: Any, **kwargs: Any) -> Any:
        """Give all rows that follow."""
        return self._give(super().fetchall, args, kwargs)

    def soft_close(self, result: Any, dbapi_cursor: Any) -> None:
        """Close the cursor, which would read the rest first."""
        self._end(result.context.root_connection)
        super().soft_close(result, dbapi_cursor)

    def hard_close(self, result: Any, dbapi_cursor: Any) -> None:
        """Close the cursor, which would read the rest first."""
        self._end(result.context.root_connection)
        super().hard_close(result, dbapi_cursor)

    def _end(self, connection: Connection) -> None:
        if connection.closed or connection.invalidated or not has_rest(self._rest):
            return
        if _rest_of(connection.connection) is self._rest:
            end(connection.dialect, connection.connection)
            _ask_status(connection.connection.dbapi_connection)

    def _give(self, fetch: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._check(is_missing=not (self._is_at_end or has_rest(self._rest)))
        given = fetch(*args, **kwargs)
        self._check()
        self._is_at_end = not has_rest(self._rest)
        return given

    def _check(self, *, is_missing: bool = False) -> None:
        if is_missing or self.is_cut:
            raise TransactionManagementError(MISSING)


def install(engine: Engine) -> None:
    """Look at all that is sent, of which the dialect hears whoever asks for it."""
    dialect: Any = engine.dialect
    for name in WAYS:
        setattr(dialect, name, partial(execute, dialect, getattr(dialect, name)))
    dialect.do_commit = partial(commit, dialect, dialect.do_commit)
    dialect.do_rollback = partial(roll_back, dialect, dialect.do_rollback)

    if not dialect.is_async and dialect.supports_server_side_cursors:  # which it looks up here
        dialect._sscursor = type("SSCursor", (dialect._sscursor,), {"__del__": _nothing})  # noqa: SLF001


def _nothing(cursor: Any) -> None:
    """Leave the rest to what is sent next, where PyMySQL would read it when a cursor is gone."""


def read(context: Any, statement: str) -> None:
    """Read the result of a statement in pieces."""
    connection = context.root_connection
    pooled = connection.connection
    reader = ReadInPieces(context.cursor, context.execution_options, _rest_of(pooled))
    context.cursor_fetch_strategy = reader
    pooled.info[READER] = (ref(reader), ref(context), statement, ref(connection))


def end(dialect: Dialect, pooled: Any) -> None:
    """End a query of which there are rows to be read, before something else is sent.

    Args:
        dialect: whose connection it is.
        pooled: the connection.
    """
    rest = _rest_of(pooled)
    if not has_rest(rest):
        return
    statement = _look_ahead(getattr(pooled, "info", {}).get(READER, ()))
    if not _is_in_rest(pooled):
        return
    if statement.lstrip().upper().startswith(READING):
        kill.end_query(dialect, pooled)
    try:
        finished = rest._finish_unbuffered_query()  # noqa: SLF001
        if dialect.is_async:
            await_only(finished)
    except Exception as error:
        if errors.native_code(error) not in errors.MYSQL_INTERRUPTED:
            raise


def _ask_status(driver: Any) -> None:
    """Let the driver know whether there is a transaction: with an error comes no flag of that."""
    driver.ping(False)


def execute(dialect: Dialect, send: Callable[..., None], *args: Any) -> None:
    """Send a statement, when nothing comes before its answer; its context comes last."""
    connection = getattr(args[-1], "root_connection", None)
    if connection is not None:
        end(dialect, connection.connection)
    send(*args)


def _look_ahead(reading: tuple[Any, ...]) -> str:
    """Let whoever reads in pieces see whether there is more, and return what is read."""
    if not reading:
        return ""
    reader, context, statement = reading[0](), reading[1](), reading[2]
    if reader is not None and context is not None and context.cursor is not None:
        reader.look_ahead(context.cursor)
    return str(statement)


def _reader_of(pooled: Any) -> ReadInPieces | None:
    seen = pooled.info.get(READER)
    reader: ReadInPieces | None = None if seen is None else seen[0]()
    return reader


def _rest_of(pooled: Any) -> Any:
    return getattr(getattr(pooled, "driver_connection", None), "_result", None)


def commit(dialect: Dialect, send: Callable[[Any], None], connection: Any) -> None:
    """Send COMMIT, when nothing comes before its answer."""
    end(dialect, connection)
    send(connection)


def roll_back(
    dialect: Dialect, send: Callable[[Any], None], connection: Any, pooled: Any = None
) -> None:
    """Send ROLLBACK, or give the connection up where much may come before the answer.

    Args:
        dialect: whose connection it is.
        send: the dialect's own way to say ROLLBACK.
        connection: whose transaction it is.
        pooled: its entry in the pool, which has it back; else the connection is the pool's.
    """
    pooled = connection if pooled is None else pooled
    if not _is_in_rest(pooled):
        send(connection)
        return
    give_up(dialect, pooled)
    # Whoever uses it again has to know that it is gone, as no pool tells him.
    user = pooled.info[READER][3]() if READER in pooled.info else None
    (user if user is not None and not user.closed else pooled).invalidate()


def _is_in_rest(pooled: Any) -> bool:
    """Tell whether rows are to be read on a connection that was made by this pool."""
    try:
        is_ours = kill.CONNECT in pooled.info
    except (AttributeError, NotImplementedError):  # of the driver; or SQLAlchemy's first one
        return False
    return is_ours and has_rest(_rest_of(pooled))


def give_up(dialect: Dialect, pooled: Any) -> None:
    """Let the server end the query, its transaction and the connection."""
    rest, reader = _rest_of(pooled), _reader_of(pooled)
    if reader is not None:
        reader.is_cut = True
    kill.cut(dialect, pooled)
    rest.unbuffered_active = False  # else whoever collects it would read on
