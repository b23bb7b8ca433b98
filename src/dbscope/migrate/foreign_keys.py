"""Foreign keys of SQLite, which stand in the way of changing a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection


class ForeignKeys:
    """Not enforced while a revision changes tables; instead they are checked when it ends.

    A table is changed by making a new one in its place, and to drop the old one would be to delete
    what refers to it (https://sqlite.org/lang_altertable.html#otheralter).
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dangling: Counter[tuple[str, str]] | None = None

    @contextmanager
    def kept(self) -> Generator[None, None, None]:
        """Leave the connection as it was: one to a database in memory is the application's."""
        (before,) = self._pragma("foreign_keys")
        try:
            yield
        finally:
            rollback(self._connection)
            self._pragma(f"foreign_keys={before}")

    def prepare(self, *, enforced: bool) -> None:
        """Switch them on or off for the next revision, outside of any transaction."""
        self._pragma(f"foreign_keys={'ON' if enforced else 'OFF'}")
        self._dangling = None if enforced else self._count_dangling()
        self._connection.commit()

    def check(self) -> None:
        """Raise ValueError if the revision leaves references that lead nowhere."""
        if self._dangling is None:
            return
        added = self._count_dangling() - self._dangling
        if added:
            told = ", ".join(f"{n} in {table} to {to}" for (table, to), n in added.items())
            raise ValueError(f"it leaves references to rows that are not there: {told}")

    def _count_dangling(self) -> Counter[tuple[str, str]]:
        rows = self._connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return Counter((row[0], row[2]) for row in rows)

    def _pragma(self, setting: str) -> Any:
        # Not by SQLAlchemy, which would begin a transaction, where it has no effect.
        cursor = self._connection.connection.cursor()
        cursor.execute(f"PRAGMA {setting}")
        row = cursor.fetchone()
        cursor.close()
        return row


def rollback(connection: Connection) -> None:
    """Roll back for certain.

    SQLite stays in a transaction whose COMMIT has failed, and SQLAlchemy does not know.
    """
    connection.rollback()
    connection.dialect.do_rollback(connection.connection)
