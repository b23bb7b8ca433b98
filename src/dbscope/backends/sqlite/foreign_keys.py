"""Foreign keys of SQLite, which stand in the way of changing a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from sqlalchemy import Connection

from dbscope.backends.listening import heard
from dbscope.backends.migrating import rollback
from dbscope.backends.sqlite import batch

REFERRING = """
    SELECT 1 FROM sqlite_master m, pragma_foreign_key_list(m.name) f
    WHERE m.type = 'table' AND lower(f."table") = lower(?) AND lower(m.name) <> lower(f."table")
"""


class _TableDropped(Exception):
    """Ends the first attempt of a revision; that it was raised counts, even if it is caught."""


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

    def guarded(self, revision: Callable[..., None], undo: Callable[[], None]) -> Any:
        """Return a revision that may drop tables although foreign keys are enforced.

        What refers to the rows of a table would be deleted with it (ON DELETE CASCADE), and nothing
        can be switched off inside a transaction. So when it comes to that the revision is rolled
        back, and done again without them; what it leaves is checked.

        Args:
            revision: the function of it.
            undo: forget what it has done besides.
        """

        @wraps(revision)
        def run(**options: Any) -> None:
            if self._dangling is None:
                if not self._drops_tables(revision, options):
                    return
                undo()
                self._begin_again()
            revision(**options)

        return run

    def _drops_tables(self, revision: Callable[..., None], options: dict[str, Any]) -> bool:
        """Run it, and tell whether it would have dropped a table, which it has not."""
        seen: list[str] = []

        def see(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            table = batch.named(batch.DROP, statement)
            if table is not None and batch.ask(self._connection, REFERRING, table):
                seen.append(table)
                raise _TableDropped(table)

        try:
            with heard(self._connection, **{batch.BEFORE: see}):
                revision(**options)
        except Exception:
            if not seen:
                raise
        return bool(seen)

    def _begin_again(self) -> None:
        self._connection.dialect.do_rollback(self._connection.connection)
        self._pragma("foreign_keys=OFF")
        batch.ask(self._connection, "BEGIN IMMEDIATE")
        self._dangling = self._count_dangling()

    def check(self) -> None:
        """Raise ValueError if the revision leaves references that lead nowhere."""
        if self._dangling is None:
            return
        added = self._count_dangling() - self._dangling
        if added:
            counts = ", ".join(f"{n} in {table} to {to}" for (table, to), n in added.items())
            raise ValueError(f"it leaves references to rows that are not there: {counts}")

    def _count_dangling(self) -> Counter[tuple[str, str]]:
        rows = self._connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return Counter((row[0], row[2]) for row in rows)

    def _pragma(self, setting: str) -> Any:
        # Not by SQLAlchemy, which would begin a transaction, where it has no effect.
        rows = batch.ask(self._connection, f"PRAGMA {setting}")
        return rows[0] if rows else None
