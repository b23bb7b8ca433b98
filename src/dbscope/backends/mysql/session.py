"""What a session of MySQL or MariaDB is told: how long statements may take, and to read only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

LIMITED = "dbscope.limited"


def limit(info: dict[str, Any], dialect: Any, milliseconds: int | None) -> str:
    """Return the statement that limits the time of those that follow; None: as it was before.

    It does not end with the transaction, and the application may have set a limit of its own.
    https://mariadb.com/docs/server/ha-and-performance/optimization-and-tuning/query-optimizations/query-limits-and-timeouts
    """
    name = "max_statement_time" if dialect.is_mariadb else "max_execution_time"
    was_limited, info[LIMITED] = info.get(LIMITED), milliseconds is not None
    if milliseconds is None:
        return f"SET SESSION {name} = @dbscope_limit"
    note = "" if was_limited else f"@dbscope_limit = @@SESSION.{name}, "
    value = milliseconds / 1000 if dialect.is_mariadb else milliseconds
    return f"SET {note}SESSION {name} = {value}"


def refuse_writes(connection: Any) -> None:
    """Make a new connection one whose transactions cannot write."""
    cursor = connection.cursor()
    cursor.execute("SET SESSION TRANSACTION READ ONLY")
    cursor.close()


def refuse_writes_for_now(connection: Connection) -> None:
    """Make the transaction that begins with the next statement one that cannot write."""
    connection.exec_driver_sql("SET TRANSACTION READ ONLY").close()


def is_read_only(connection: Connection) -> bool:
    """Tell whether the transactions of this session cannot write, if nothing else is said."""
    driver: Any = connection.connection.dbapi_connection
    name = "tx_read_only" if connection.dialect.is_mariadb else "transaction_read_only"  # type: ignore[attr-defined]
    try:
        cursor = driver.cursor()
        cursor.execute(f"SELECT @@SESSION.{name}")
        (found,) = cursor.fetchone()
        cursor.close()
    except connection.dialect.loaded_dbapi.Error:
        return True
    return bool(found)
