"""The units that write to one file, one at a time, in the order of arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbscope.errors import DatabaseUnavailable, TransactionManagementError
from dbscope.sqlite_inline import files
from dbscope.unit.unit import Unit

if TYPE_CHECKING:
    from sqlalchemy import URL

from dbscope.sqlite_inline.queue import Queue, shared


class WriteQueue(Queue[Unit]):
    """The units that write to one file, whatever their driver."""

    def enter(self, unit: Unit, timeout: float) -> None:
        """Wait until this unit may write.

        Raises:
            TransactionManagementError: the writer is this very scope, or one around it.
            DatabaseUnavailable: the time was up; it says who is writing.
        """
        if self.writer is not unit and self.is_held_around(unit):
            self._refuse(f"{unit.scope} wants to write to {self.name}", self.writer)
        if not self.take(unit, timeout, unit.turn.world.gate):
            raise DatabaseUnavailable(
                f"{self.name} is locked: {self._who()} has been writing for {timeout:g} s."
            )

    def is_held_around(self, unit: Unit) -> bool:
        """Tell whether the writer is this very scope, or one around it, which cannot go on."""
        writer = self.writer
        return writer is not None and writer.scope in unit.scope.with_ancestors()

    def refuse_second_writer(self, writer: Unit) -> None:
        """Refuse a transaction inside the one that is writing."""
        self._refuse(f"A transaction of its own was to begin in {self.name}", writer)

    def _refuse(self, what: str, writer: Unit | None) -> None:
        around = "a scope" if writer is None else writer.scope
        raise TransactionManagementError(
            f"{what} while the transaction of {around}, around it, is writing; "
            "SQLite has one writer at a time. "
            "Do the writing in one scope, or end the outer transaction first."
        )

    def _who(self) -> str:
        writer = self.writer
        return "somebody" if writer is None else str(writer.scope)


def write_queue(url: URL) -> WriteQueue:
    """Return the queue of the units that write to this file."""
    return shared(WriteQueue, files.name_of(url), files.path_of(url))
