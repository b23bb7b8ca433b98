"""INSERT … ON DUPLICATE KEY UPDATE of nothing, and how MariaDB does it without waiting."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause, select, text
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.exc import DBAPIError

from dbscope.backends import errors
from dbscope.backends.inserting import Inserting, UnderWay

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select, Table
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import Executable


class MySQLInserting(Inserting):
    """How it is done here; a row that was there is counted as well."""

    def insert(self, session: Session, values: dict[str, Any], *, wait: bool) -> bool:
        """Insert the row, and look whether it is ours."""
        at_once = not wait and is_mariadb(session.connection())  # known once it is connected
        try:
            if at_once:
                session.execute(without_waiting(self.table), values)
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

    def current(self, query: Select[Any]) -> Select[Any]:
        """Lock the rows for reading: by that they are read as they are now."""
        return query.with_for_update(read=True)

    def probe(self, connection: Connection, values: dict[str, Any]) -> None:
        """Wait for nobody, where that can be said."""
        if is_mariadb(connection):
            connection.execute(without_waiting(self.table), values)
        else:
            super().probe(connection, values)


def is_mariadb(connection: Connection) -> bool:
    """Tell MariaDB, which can be told for one statement how long to wait, from MySQL."""
    return bool(getattr(connection.dialect, "is_mariadb", False))


@cache
def without_waiting(table: Table) -> TextClause:
    """Return MariaDB's INSERT for all columns of a table, which waits for nobody."""
    names = [column.name for column in table.columns]
    key = next(iter(table.primary_key.columns)).name
    return text(
        f"SET STATEMENT innodb_lock_wait_timeout = 0 FOR INSERT INTO {table.name}"  # noqa: S608
        f" ({', '.join(f'`{name}`' for name in names)})"
        f" VALUES ({', '.join(f':{name}' for name in names)}) ON DUPLICATE KEY UPDATE {key} = {key}"
    )
