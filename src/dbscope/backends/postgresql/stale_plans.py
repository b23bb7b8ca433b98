"""Prepared statements that the server does not take any more.

A table was altered by somebody else, or the statement was deallocated. Outside of a transaction
psycopg would send it again and again, and asyncpg's adapter fails once on each connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbscope.backends import errors
from dbscope.backends.postgresql import simple
from dbscope.engine import fitness

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dbscope.engine.transaction import Renew


def renewing(engine: Engine) -> Renew:
    """Return what renews a stale plan, and tells whether its statement can be sent once more."""
    dialect: Any = engine.dialect

    def renew(cursor: Any, connection: Any, error: Exception, is_first: bool) -> bool:
        if is_first and errors.sqlstate(error) == errors.FAILED_TRANSACTION:
            connection.info[fitness.LEFT_OVER] = True
        if not errors.is_stale_plan(error):
            return False
        driver = connection.connection.dbapi_connection
        forget_plans(dialect, cursor, driver)
        if is_first:
            dialect.do_rollback(driver)
        return is_first

    return renew


def forget_plans(dialect: Any, cursor: Any, connection: Any) -> None:
    """Let the driver prepare all statements anew."""
    driver = simple.driver_of(connection)
    if simple.is_asyncpg(driver):  # as SQLAlchemy does, for all connections at once
        dialect._invalidate_schema_cache()  # noqa: SLF001
        cursor._invalidate_schema_cache_asof = dialect._invalidate_schema_cache_asof  # noqa: SLF001
    elif hasattr(driver, "pgconn"):
        driver._prepared.clear()  # noqa: SLF001  (as it does itself after a ROLLBACK)
