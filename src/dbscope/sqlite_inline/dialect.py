"""`sqlite+inline`: an async dialect of SQLAlchemy's over the standard library's `sqlite3`.

create_async_engine("sqlite+inline:///app.db")
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import AsyncAdaptedQueuePool

from dbscope.sqlite_inline.driver import Driver
from dbscope.sqlite_inline.pool import LoopPool

if TYPE_CHECKING:
    from sqlalchemy import URL


class InlineContext(SQLiteExecutionContext):
    """How a statement gets its cursor."""

    def create_server_side_cursor(self) -> Any:
        """Return a cursor for `stream()`."""
        return self.root_connection.connection.cursor(server_side=True)


class InlineDialect(SQLiteDialect_pysqlite):
    """SQLite on the event loop, and in a thread where it would take long."""

    driver = "inline"
    is_async = True
    has_terminate = True
    supports_statement_cache = True
    supports_server_side_cursors = True
    execution_ctx_cls = InlineContext

    @classmethod
    def import_dbapi(cls) -> Any:
        """Return the driver of one engine."""
        return Driver()

    @classmethod
    def get_pool_class(cls, url: URL) -> type[AsyncAdaptedQueuePool]:  # noqa: ARG003
        """Return the pool, for a database in memory too: its connections share it."""
        return LoopPool

    def get_driver_connection(self, connection: Any) -> sqlite3.Connection:
        """Return the connection of `sqlite3`."""
        driver: sqlite3.Connection = connection.driver_connection
        return driver

    def do_begin(self, dbapi_connection: Any) -> None:
        """Begin: BEGIN is sent with the first statement, when it is known whether that writes."""
        dbapi_connection.begin_later()

    def do_terminate(self, dbapi_connection: Any) -> None:
        """End a connection that nobody can use any more."""
        dbapi_connection.terminate()

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """Choose whether statements are in a transaction."""
        dbapi_connection.set_autocommit(level == "AUTOCOMMIT")
        if level != "AUTOCOMMIT":
            super(SQLiteDialect_pysqlite, self).set_isolation_level(dbapi_connection, level)

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:
        """Tell whether each statement is its own transaction."""
        return bool(dbapi_conn.autocommit)
