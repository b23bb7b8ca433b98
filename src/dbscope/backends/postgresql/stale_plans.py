"""Prepared statements that the server does not take any more.

A table was altered by somebody else, or the statement was deallocated. Outside of a transaction
psycopg would send it again and again, and asyncpg's adapter fails once on each connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbscope.backends.postgresql import simple
from dbscope.engine import faults, fitness, transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine


def install(engine: Engine) -> None:
    """Renew what is stale, and repeat the statement if nothing was done before it.

    Not by SQLAlchemy's events `do_execute`, where the first listener is the last.
    """
    dialect: Any = engine.dialect
    if dialect.name != "postgresql":
        return
    for name in transaction.WAYS:
        setattr(dialect, name, renewing(dialect, getattr(dialect, name)))


def renewing(dialect: Any, execute: Callable[..., None]) -> Callable[..., None]:
    """Return the dialect's method, which is called again after what was stale is renewed."""

    def execute_or_renew(cursor: Any, *args: Any) -> None:
        try:
            execute(cursor, *args)
        except Exception as error:
            connection: Any = getattr(args[-1], "root_connection", None)
            if not can_be_repeated(dialect, cursor, connection, error):
                raise
            dialect.do_rollback(connection.connection.dbapi_connection)
            execute(cursor, *args)

    return execute_or_renew


def can_be_repeated(dialect: Any, cursor: Any, connection: Any, error: Exception) -> bool:
    """Renew what the error says is stale, and tell whether its statement was a unit's first."""
    if connection is None:
        return False
    unit = transaction.unit_of(connection)
    is_first = unit is not None and not unit.begun
    if is_first and faults.sqlstate(error) == faults.FAILED_TRANSACTION:
        connection.info[fitness.LEFT_OVER] = True
    if not faults.is_stale_plan(error):
        return False
    forget_plans(dialect, cursor, connection.connection.dbapi_connection)
    return is_first


def forget_plans(dialect: Any, cursor: Any, connection: Any) -> None:
    """Let the driver prepare all statements anew."""
    driver = simple.driver_of(connection)
    if simple.is_asyncpg(driver):  # as SQLAlchemy does, for all connections at once
        dialect._invalidate_schema_cache()  # noqa: SLF001
        cursor._invalidate_schema_cache_asof = dialect._invalidate_schema_cache_asof  # noqa: SLF001
    elif hasattr(driver, "pgconn"):
        driver._prepared.clear()  # noqa: SLF001  (as it does itself after a ROLLBACK)
