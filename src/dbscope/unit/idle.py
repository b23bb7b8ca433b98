"""The idle watch: who holds a transaction while it waits for something else."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from dbscope.unit import callsite
from dbscope.watch.events import IdleInTransaction

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit


class Idle:
    """When and where a unit has last used its transaction.

    Args:
        limit: seconds that it may sit in a transaction without a statement.
    """

    __slots__ = ("limit", "since", "where")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.since: float | None = None
        self.where: object = None

    def begin(self, unit: Unit) -> None:
        """Warn if the transaction has been idle for too long."""
        since, self.since = self.since, None
        if since is None or unit.connection is None:
            return
        seconds = monotonic() - since
        if seconds > self.limit:
            before = callsite.of_use()
            unit.source.events.tell(IdleInTransaction, unit, seconds, self.where, before)

    def end(self) -> None:
        """Note that a statement has ended, and where it came from."""
        self.since = monotonic()
        self.where = callsite.of_use()
