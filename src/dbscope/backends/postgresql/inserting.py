"""INSERT … ON CONFLICT DO NOTHING, and how PostgreSQL does it without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select, text
from sqlalchemy.dialects.postgresql import insert

from dbscope.backends.inserting import Inserting

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.sql import Executable

WAIT_SHORTLY = text("SET LOCAL lock_timeout = '100ms'")


class PostgreSQLInserting(Inserting):
    """How it is done here."""

    def statement(self, values: dict[str, Any]) -> Executable:
        """Return the INSERT."""
        return insert(self.table).values(values).on_conflict_do_nothing()

    def at_once(self, values: dict[str, Any]) -> Executable:
        """Return an INSERT that does nothing, too, while somebody else does the same."""
        number = int(values[self.key.name][:16], 16) - 2**63
        free = select(func.pg_try_advisory_xact_lock(number).label("is_free")).subquery()
        columns = list(self.table.columns)
        row = [literal(values[each.name], each.type).label(each.name) for each in columns]
        source = select(*row).where(free.c.is_free)
        return insert(self.table).from_select(columns, source).on_conflict_do_nothing()

    def probe(self, connection: Connection, values: dict[str, Any]) -> None:
        """Wait for nobody for long."""
        connection.execute(WAIT_SHORTLY)
        super().probe(connection, values)
