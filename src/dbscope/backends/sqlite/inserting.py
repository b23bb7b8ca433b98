"""INSERT … ON CONFLICT DO NOTHING, as SQLite has it: there is one writer at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.sqlite import insert

from dbscope.backends.inserting import Inserting

if TYPE_CHECKING:
    from sqlalchemy.sql import Executable


class SQLiteInserting(Inserting):
    """How it is done here."""

    def statement(self, values: dict[str, Any]) -> Executable:
        """Return the INSERT."""
        return insert(self.table).values(values).on_conflict_do_nothing()
