"""SQLite, which changes a table by dropping it: what there is around the table, and what stays."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from dbscope.backends.listening import heard

NAME = r"""("(?:[^"]|"")+"|`[^`]+`|\[[^\]]+\]|\w+)"""
DROP = re.compile(
    rf"\s*DROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:main\s*\.\s*)?{NAME}\s*;?\s*$", re.IGNORECASE
)
# How Alembic's batch mode ends.
RENAME = re.compile(
    rf'\s*ALTER\s+TABLE\s+"?_alembic_tmp_.*\sRENAME\s+TO\s+{NAME}\s*$', re.IGNORECASE | re.DOTALL
)
VIRTUAL = """
    SELECT name FROM pragma_table_list WHERE type IN ('virtual', 'shadow') AND schema = 'main'
    UNION SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL %'
"""
BEFORE, AFTER = "before_cursor_execute", "after_cursor_execute"


def ask(connection: Connection, sql: str, *values: Any) -> list[Any]:
    """Return rows, without beginning a transaction and unseen by listeners."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql, values)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def named(pattern: re.Pattern[str], statement: str) -> str | None:
    """Return the table of a statement, without quotes."""
    found = pattern.match(statement)
    if found is None:
        return None
    name = found[1]
    return name if name[0] not in '"`[' else name[1:-1].replace('""', '"')


def virtual_tables(connection: Connection) -> frozenset[str]:
    """Return the virtual tables (FTS5, R*Tree), and those in which they keep what they know."""
    return frozenset(name for (name,) in ask(connection, VIRTUAL))


@contextmanager
def whole(connection: Connection) -> Generator[None, None, None]:
    """Keep the triggers of tables that batch mode changes, and views that look at them.

    Raises:
        ValueError: (by the statement) a trigger does not fit what the table has become.
    """
    lost: dict[str, list[tuple[str, str]]] = {}

    def before(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if (table := named(DROP, statement)) is not None:
            lost[table.lower()] = _triggers(connection, table)
        elif named(RENAME, statement) is not None:
            # Else SQLite refuses it for a view that looks at the table, which is not there now.
            ask(connection, "PRAGMA legacy_alter_table = ON")

    def after(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if (table := named(RENAME, statement)) is not None:
            ask(connection, "PRAGMA legacy_alter_table = OFF")
            _make_again(connection, table, lost.pop(table.lower(), []))

    with heard(connection, **{BEFORE: before, AFTER: after}):
        yield


def _triggers(connection: Connection, table: str) -> list[tuple[str, str]]:
    of = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)"
    return [(name, sql) for name, sql in ask(connection, of, table)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _make_again(connection: Connection, table: str, triggers: list[tuple[str, str]]) -> None:
    if not triggers:
        return
    columns = ask(connection, "SELECT name FROM pragma_table_info(?)", table)
    changes = ", ".join(f"{_quoted(name)} = {_quoted(name)}" for (name,) in columns)
    of = _quoted(table)
    try:
        for _, sql in triggers:
            ask(connection, sql)
        # Compiles what they do, and does not do it.
        ask(connection, f"EXPLAIN DELETE FROM {of}")  # noqa: S608 (quoted)
        ask(connection, f"EXPLAIN UPDATE {of} SET {changes}")  # noqa: S608
        ask(connection, f"EXPLAIN INSERT INTO {of} DEFAULT VALUES")
    except Exception as error:
        names = ", ".join(name for name, _ in triggers)
        raise ValueError(
            f"the triggers of table {table} ({names}) do not fit what it becomes: {error}; "
            "drop them with op.execute() before it is changed, and make those that fit after it"
        ) from error
