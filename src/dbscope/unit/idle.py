"""The idle watch: who holds a transaction while it waits for something else."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from dbscope.unit import callsite

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit

logger = logging.getLogger("dbscope")


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
            unit.source.counters["idle_warnings"] += 1
            logger.warning(
                "%s sat idle in a transaction for %.1f s, after %s and before %s; "
                "give the connection back before a slow call: `db.release()`.",
                unit.scope,
                seconds,
                self.where,
                callsite.of_use(),
            )

    def end(self) -> None:
        """Note that a statement has ended, and where it came from."""
        self.since = monotonic()
        self.where = callsite.of_use()
