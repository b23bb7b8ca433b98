"""The state of a session of MySQL or MariaDB: as it was when it had been set up, and so again.

COM_RESET_CONNECTION ends locks, temporary tables, user variables and prepared statements, and takes
back what was SET; so what belongs to the connection is told again: that it does not commit by
itself, its SQL mode, that it only reads (https://mariadb.com/kb/en/com_reset_connection/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dbscope.backends.postgresql.simple import awaited, driver_of

COM_RESET_CONNECTION = 0x1F
MARIADB = """SELECT variable_name, session_value FROM information_schema.system_variables
 WHERE variable_scope = 'SESSION' AND read_only = 'NO'
 AND NOT session_value <=> global_value ORDER BY variable_name"""
MYSQL = """SELECT s.variable_name, s.variable_value FROM performance_schema.session_variables AS s
 JOIN performance_schema.global_variables AS g USING (variable_name)
 WHERE NOT s.variable_value <=> g.variable_value ORDER BY variable_name"""
NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Kept:
    """What a session was when it had been set up.

    Args:
        settings: the statement that makes it so again; "": there is nothing to say.
        database: in which it is.
    """

    settings: str
    database: str | None


def remember(connection: Any, dialect: Any) -> Kept:
    """Return what a new session is, when all have set it up: once for its life."""
    cursor = connection.cursor()
    try:
        cursor.execute(MARIADB if dialect.is_mariadb else MYSQL)
        assignments = ", ".join(
            f"SESSION {name} = {literal(value)}" for name, value in cursor.fetchall()
        )
        cursor.execute("SELECT DATABASE()")
        ((database,),) = cursor.fetchall()
    finally:
        cursor.close()
    connection.rollback()
    return Kept(f"SET {assignments}" if assignments else "", database)


def reset(connection: Any, kept: Kept) -> None:
    """Make a session what it was: in three round trips, for it has no way to say it in one."""
    driver = driver_of(connection)
    # Neither PyMySQL nor asyncmy has a name for it.
    awaited(driver._execute_command(COM_RESET_CONNECTION, b""))  # noqa: SLF001
    awaited(driver._read_ok_packet())  # noqa: SLF001
    if kept.database is not None:
        awaited(driver.select_db(kept.database))
    if kept.settings:
        cursor = connection.cursor()
        cursor.execute(kept.settings)
        cursor.close()


def literal(value: str | None) -> str:
    """Return a value of a setting as SQL: what the server calls a number has no quotes."""
    if value is None:
        return "NULL"
    if NUMBER.fullmatch(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
