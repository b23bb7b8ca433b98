"""How a row is inserted unless it is there, by a statement that waits for whoever inserts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection, Row, Select, Table
    from sqlalchemy.orm import Session
    from sqlalchemy.sql import Executable

COUNTED = {"preserve_rowcount": True}


class UnderWay(Exception):
    """Somebody else is in the middle of it, and is not to be waited for."""


class Inserting:
    """How it is done, which each database says by its `statement`.

    Args:
        table: whose key is one column, of the hex digits of a digest.
        writer: the column that says who has written a row.
    """

    def __init__(self, table: Table, writer: Column[Any]) -> None:
        self.table = table
        self.writer = writer
        self.key: Column[Any] = next(iter(table.primary_key.columns))

    def insert(self, session: Session, values: dict[str, Any], *, wait: bool) -> bool:
        """Insert the row, and tell whether it is ours.

        Args:
            session: in a transaction.
            values: of the row.
            wait: for whoever is inserting it.

        Raises:
            UnderWay: somebody is inserting it; False may mean that, too, if nobody is waited for.
        """
        inserting = self.statement(values) if wait else self.at_once(values)
        result: Any = session.execute(inserting, execution_options=COUNTED)
        return bool(result.rowcount)

    def statement(self, values: dict[str, Any]) -> Executable:
        """Return the INSERT: nothing is done where the row is, and who inserts it is waited for."""
        raise NotImplementedError

    def at_once(self, values: dict[str, Any]) -> Executable:
        """Return one that does not wait, where there is one."""
        return self.statement(values)

    def current(self, session: Session, key: str) -> Row[Any] | None:
        """Return the row as it is now, and not as the transaction saw it first; None: gone."""
        return session.execute(self.query(key)).first()

    def query(self, key: str) -> Select[Any]:
        """Return what reads the row of a key."""
        return select(self.table).where(self.key == key)

    def probe(self, connection: Connection, values: dict[str, Any]) -> None:
        """Insert a row, or see that it is there, or that nobody can tell yet; to be rolled back.

        Raises:
            DBAPIError: somebody is in the middle of it, or the server does not take writes.
        """
        connection.execute(self.statement(values))
