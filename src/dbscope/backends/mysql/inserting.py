"""INSERT … ON DUPLICATE KEY UPDATE of nothing, and how MariaDB does it without waiting."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause, select, text
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.exc import DBAPIError

from dbscope.backends import errors
from dbscope.backends.inserting import Inserting, UnderWay

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Table, TextualSelect
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import Executable


class MySQLInserting(Inserting):
    """How it is done here; a row that was there is counted as well."""

    def insert(self, session: Session, values: dict[str, Any], *, wait: bool) -> bool:
        """Insert the row, and look whether it is ours."""
        settings = settings_for(session.connection(), wait=wait)  # known once it is connected
        at_once = NO_WAIT in settings
        try:
            if settings:
                session.execute(inserting_with(settings, self.table), values)
            else:
                session.execute(self.statement(values))
        except DBAPIError as error:
            if at_once and errors.has_waited_for_row(error.orig):
                raise UnderWay from error
            raise
        query = select(self.writer).where(self.key == values[self.key.name])
        return bool(session.scalar(query) == values[self.writer.name])  # what we wrote, we see

    def statement(self, values: dict[str, Any]) -> Executable:
        """Return the INSERT.

        Not INSERT IGNORE, whose shared locks end in a deadlock if the first one rolls back.
        """
        nothing = {self.key.name: self.key}
        return insert(self.table).values(values).on_duplicate_key_update(nothing)

    def current(self, session: Session, key: str) -> Row[Any] | None:
        """Lock the row for reading: by that it is read as it is now."""
        settings = settings_for(session.connection(), wait=True)
        if settings:
            reading = reading_with(settings, self.table)
            return session.execute(reading, {self.key.name: key}).first()
        return session.execute(self.query(key).with_for_update(read=True)).first()

    def probe(self, connection: Connection, values: dict[str, Any]) -> None:
        """Wait for nobody, where that can be said."""
        settings = settings_for(connection, wait=False)
        if settings:
            connection.execute(inserting_with(settings, self.table), values)
        else:
            super().probe(connection, values)


def settings_for(connection: Connection, *, wait: bool) -> tuple[str, ...]:
    """Return what MariaDB can be told for one statement, and MySQL cannot.

    Args:
        connection: of either.
        wait: for whoever has the row.
    """
    dialect: Any = connection.dialect
    if not getattr(dialect, "is_mariadb", False):
        return ()
    sees_latest = (SEE_LATEST,) if has_snapshots(dialect.server_version_info) else ()
    return sees_latest if wait else (*sees_latest, NO_WAIT)


NO_WAIT = "innodb_lock_wait_timeout = 0"
# A row that is younger than what the transaction has read would be error 1020, and a ROLLBACK.
# https://mariadb.com/kb/en/innodb-system-variables/#innodb_snapshot_isolation
SEE_LATEST = "innodb_snapshot_isolation = OFF"
SINCE: dict[tuple[int, ...], int] = {
    (10, 6): 18,
    (10, 11): 8,
    (11, 0): 6,
    (11, 1): 5,
    (11, 2): 4,
    (11, 4): 2,
}


def has_snapshots(version: tuple[int, ...]) -> bool:
    """Tell whether a version of MariaDB can be told so; since 11.6.2 it is on by itself."""
    return version >= (11, 5) or version[2] >= SINCE.get(version[:2], sys.maxsize)


@cache
def inserting_with(settings: tuple[str, ...], table: Table) -> TextClause:
    """Return MariaDB's INSERT for all columns of a table, with settings for it alone."""
    names = [column.name for column in table.columns]
    key = next(iter(table.primary_key.columns)).name
    return text(
        f"SET STATEMENT {', '.join(settings)} FOR INSERT INTO {table.name}"  # noqa: S608
        f" ({', '.join(f'`{name}`' for name in names)})"
        f" VALUES ({', '.join(f':{name}' for name in names)}) ON DUPLICATE KEY UPDATE {key} = {key}"
    )


@cache
def reading_with(settings: tuple[str, ...], table: Table) -> TextualSelect:
    """Return MariaDB's SELECT of all columns by the key, with settings for it alone."""
    names = ", ".join(f"`{column.name}`" for column in table.columns)
    key = next(iter(table.primary_key.columns)).name
    return text(
        f"SET STATEMENT {', '.join(settings)} FOR SELECT {names} FROM {table.name}"  # noqa: S608
        f" WHERE {key} = :{key} LOCK IN SHARE MODE"
    ).columns(*table.columns)
