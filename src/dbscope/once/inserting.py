"""How a key is taken on each database: an INSERT that waits for whoever inserts the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select, text
from sqlalchemy.exc import DBAPIError

from dbscope.backends import errors
from dbscope.errors import ConfigurationError
from dbscope.once.table import NAME, TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection, Dialect
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import Executable
LOCK_WAIT_TIMEOUT = 1205  # of MySQL and MariaDB
LOCK_NOT_AVAILABLE = "55P03"  # of PostgreSQL
COLUMNS = [column.name for column in TABLE.columns]
AT_ONCE = text(
    f"SET STATEMENT innodb_lock_wait_timeout = 0 FOR INSERT INTO {NAME}"  # noqa: S608
    f" ({', '.join(f'`{name}`' for name in COLUMNS)})"
    f" VALUES ({', '.join(f':{name}' for name in COLUMNS)}) ON DUPLICATE KEY UPDATE id = id"
)
COUNTED = {"preserve_rowcount": True}


class UnderWay(Exception):
    """Somebody else is in the middle of it, and is not to be waited for."""


def insert(session: Session, values: dict[str, Any], *, wait: bool) -> bool:
    """Insert the row, and tell whether it is ours."""
    dialect = session.get_bind(clause=TABLE).dialect
    if dialect.name in ("mysql", "mariadb"):
        return _insert_mysql(session, dialect, values, wait=wait)
    inserting = statement(dialect, values)
    if not wait and dialect.name == "postgresql":
        inserting = _unless_locked(values)
    result: Any = session.execute(inserting, execution_options=COUNTED)
    return bool(result.rowcount)


def _insert_mysql(
    session: Session, dialect: Dialect, values: dict[str, Any], *, wait: bool
) -> bool:
    """Do the same on MySQL, which counts a row that was there as well."""
    at_once = not wait and is_mariadb(session.connection())  # known once it is connected
    try:
        if at_once:
            session.execute(AT_ONCE, values)
        else:
            session.execute(statement(dialect, values))
    except DBAPIError as error:
        if at_once and is_lock_timeout(error.orig):
            raise UnderWay from error
        raise
    query = select(TABLE.c.attempt).where(TABLE.c.id == values["id"])
    return bool(session.scalar(query) == values["attempt"])  # what we have written, we see


def statement(dialect: Dialect, values: dict[str, Any]) -> Executable:
    """Return the INSERT that does nothing where the row is; who is inserting it is waited for.

    Raises:
        ConfigurationError: of this database it is not known how.
    """
    if dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(TABLE).values(values).on_conflict_do_nothing()
    if dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(TABLE).values(values).on_conflict_do_nothing()
    if dialect.name in ("mysql", "mariadb"):
        from sqlalchemy.dialects import mysql

        # Not INSERT IGNORE, whose shared locks end in a deadlock if the first one rolls back.
        return mysql.insert(TABLE).values(values).on_duplicate_key_update(id=TABLE.c.id)
    raise ConfigurationError(f"`once` is for PostgreSQL, MySQL, MariaDB, SQLite: {dialect.name!r}.")


def _unless_locked(values: dict[str, Any]) -> Executable:
    """Return an INSERT that does nothing, too, while somebody else does the same."""
    from sqlalchemy.dialects import postgresql

    number = int(values["id"][:16], 16) - 2**63
    free = select(func.pg_try_advisory_xact_lock(number).label("is_free")).subquery()
    row = [literal(values[name], TABLE.c[name].type).label(name) for name in COLUMNS]
    source = select(*row).where(free.c.is_free)
    return postgresql.insert(TABLE).from_select(COLUMNS, source).on_conflict_do_nothing()


def is_mariadb(connection: Connection) -> bool:
    """Tell MariaDB, which can be told for one statement how long to wait, from MySQL."""
    return bool(getattr(connection.dialect, "is_mariadb", False))


def is_lock_timeout(error: BaseException | None) -> bool:
    """Tell whether a lock was not to be had in time."""
    code = errors.native_code(error)
    return code == LOCK_WAIT_TIMEOUT or errors.sqlstate(error) == LOCK_NOT_AVAILABLE


def current_row(session: Session, id: str) -> Executable:  # noqa: A002  (the column's name)
    """Return the query for a row as it is now, and not as it was when the transaction began."""
    query = select(TABLE).where(TABLE.c.id == id)
    name = session.get_bind(clause=TABLE).dialect.name
    return query.with_for_update(read=True) if name in ("mysql", "mariadb") else query


def probe(connection: Connection, values: dict[str, Any]) -> None:
    """Insert a row, or see that it is there, or that nobody can tell yet; to be rolled back.

    Raises:
        DBAPIError: somebody is in the middle of it, or the server does not take writes.
    """
    if is_mariadb(connection):
        connection.execute(AT_ONCE, values)
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
    connection.execute(statement(connection.dialect, values))
