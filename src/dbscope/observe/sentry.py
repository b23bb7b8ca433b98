"""Sentry: what became of the transaction, as breadcrumbs and tags of whatever is sent to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbscope.extras import needed
from dbscope.observe import transactions
from dbscope.observe.attaching import AnyDatabase, all_of, attach
from dbscope.observe.transactions import Follower, Transaction
from dbscope.unit.block import Outcome
from dbscope.watch import events, reasons

with needed("sentry_sdk", "The SDK of Sentry"):
    import sentry_sdk

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.unit.unit import Unit

__all__ = ["install"]

OPEN = "open"  # the error is sent before the transaction has ended
WORTH_A_WORD = 0.05  # seconds of a wait
LEVELS = {
    transactions.COMMITTED: "info",
    transactions.ROLLED_BACK: "warning",
    transactions.COMMIT_FAILED: "error",
    transactions.UNKNOWN: "error",
}


def install(*databases: AnyDatabase) -> Callable[[], None]:
    """Tell Sentry of each transaction from now on; no values, as in the watch.

    The tags are `dbscope.outcome` (`open` where an error is sent before the transaction has ended),
    `dbscope.scope` and `dbscope.route`; a database with another name than `default` has its name
    behind each.

    Args:
        *databases: either kind; its companion is told of as well.

    Returns:
        What ends it.

    Raises:
        ConfigurationError: sentry-sdk is not installed.

    Example:
        >>> sentry_sdk.init(...)
        >>> sentry.install(db)
    """
    return all_of([attach(each, Breadcrumbs(each.name)) for each in databases])


class Breadcrumbs(Follower):
    """Leaves breadcrumbs for one database.

    Args:
        name: of it.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.suffix = "" if name == "default" else f".{name}"
        self.handlers |= {
            events.BlockEnded: self._block_ended,
            events.HookFailed: self._hook_failed,
            events.AttemptFailed: self._attempt_failed,
        }

    def waited(
        self, unit: Unit, seconds: float, error: BaseException | None, *, was_full: bool
    ) -> None:
        """Tell of a long one."""
        if error is not None:
            self._leave(f"no connection: {reasons.describe(error, unit)}", "error")
        elif was_full and seconds >= WORTH_A_WORD:
            self._leave(f"waited {seconds:.2f} s for a connection", "warning")

    def begun(self, transaction: Transaction) -> None:
        """Tell that it is open, and whose it is."""
        self._tag("outcome", OPEN)
        self._tag("scope", transaction.kind)
        if transaction.route:
            self._tag("route", transaction.route)
        self._leave("transaction begun", "debug")

    def ended(self, transaction: Transaction) -> None:
        """Tell what became of it."""
        outcome = str(transaction.outcome)
        self._tag("outcome", outcome)
        told = outcome.replace("_", " ")
        if transaction.reason is not None and outcome != transactions.COMMITTED:
            told = f"{told}, {transaction.reason}"
        seconds = round(transaction.seconds, 4)
        self._leave(told, LEVELS[outcome], seconds=seconds, route=transaction.route)

    def _block_ended(self, event: events.BlockEnded) -> None:
        if event.outcome is Outcome.ROLLED_BACK and event.block.savepoint is not None:
            self._leave("a savepoint was rolled back", "warning")

    def _hook_failed(self, event: events.HookFailed) -> None:
        why, _ = reasons.of_error(event.error, event.unit)
        self._leave(f"the hook {event.hook} failed: {why}", "error")

    def _attempt_failed(self, event: events.AttemptFailed) -> None:
        self._leave(f"attempt {event.number} failed by {event.code}, done again", "warning")

    def _tag(self, name: str, value: str) -> None:
        sentry_sdk.get_isolation_scope().set_tag(f"dbscope.{name}{self.suffix}", value)

    def _leave(self, told: str, level: str, **data: Any) -> None:
        sentry_sdk.add_breadcrumb(
            type="query",
            category="dbscope",
            message=told,
            level=level,
            data={"database": self.name, **{key: value for key, value in data.items() if value}},
        )
