"""What both kinds of outbox share: all that needs no waiting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from sqlalchemy.exc import SQLAlchemyError

from dbscope.errors import DBScopeError, TransactionRequired
from dbscope.once.claiming import session_of
from dbscope.outbox import store
from dbscope.outbox.message import Message, message_of, values_of
from dbscope.outbox.store import Report
from dbscope.unit.hooks import is_async

if TYPE_CHECKING:
    from dbscope.unit.unit import Unit

logger = logging.getLogger("dbscope")

Publish = Callable[[Message], Any]
AWAY = (DBScopeError, SQLAlchemyError, OSError)  # what a relay survives, since it may come back
LONGEST_PAUSE = 300.0  # seconds
ISOLATION = "READ COMMITTED"  # MySQL would else lock the gaps that new messages come into
PATIENCE = 5.0  # seconds for a relay to end by itself


def usual_backoff(failed: int) -> float:
    """Return the seconds until the next attempt: 1, 2, 4, …, at most 5 minutes."""
    return min(2.0 ** (failed - 1), LONGEST_PAUSE)


def in_silence(insert: Any, channel: str) -> Any:  # noqa: ARG001
    """Return the INSERT as it is: nobody is told."""
    return insert


class Rings(Protocol):
    """What wakes a relay."""

    def ring(self) -> None:
        """Wake it."""


class OutboxBase:
    """The settings of an outbox, and what is decided without waiting.

    Args:
        db: the database whose transactions send.
        publish: is given each message, and raises if it could not publish it.
        batch: messages of one round of a relay.
        attempts: a message that has failed as often is dead.
        backoff: seconds until the next attempt, by the number of those that failed.
        poll: seconds after which a relay looks without being told.
        timeout: seconds for one message.
        notify: let PostgreSQL tell relays of new messages; False: nobody tells, nobody listens.
    """

    def __init__(
        self,
        db: Any,
        publish: Publish,
        *,
        batch: int = 100,
        attempts: int = 10,
        backoff: Callable[[int], float] = usual_backoff,
        poll: float = 1.0,
        timeout: float = 30.0,
        notify: bool = True,
    ) -> None:
        if not callable(publish):
            raise TypeError(f"publish must be a function of a message, not {publish!r}.")
        self.db = db
        self.publish = publish
        self.batch = batch
        self.attempts = attempts
        self.backoff = backoff
        self.poll = poll
        self.timeout = timeout
        self.notify = notify
        self.bells: set[Rings] = set()
        self._stopped = False

    @cached_property
    def _alone(self) -> Any:
        """The lock of the one relay, where rows cannot be locked; None: they can."""
        return self.db.backend.alone("outbox")

    @cached_property
    def _waits(self) -> bool:
        """Tell whether `publish` is async."""
        return is_async(cast("Any", self.publish))

    @property
    def rests(self) -> bool:
        """Tell whether a sandbox is open: what the test has not asked for would be in its way."""
        return bool(self.db._source.sandboxes.opened)  # noqa: SLF001

    def stop(self) -> None:
        """Let the relays of this process end, after the message that they are at."""
        self._stopped = True
        self._ring()

    def _ring(self) -> None:
        for bell in list(self.bells):
            bell.ring()

    def _add(
        self,
        unit: Unit,
        topic: str,
        body: Any,
        key: str | None,
        headers: Mapping[str, str] | None,
    ) -> str:
        """Store a message in the innermost block of a unit, and return its id."""
        if unit.block is None:
            raise TransactionRequired(f"A message was sent in {unit.scope}, which autocommits.")
        values = values_of(topic, body, key, headers, store.now())
        notifying = self.db.backend.notifying if self.notify else in_silence
        store.add(session_of(unit), values, notifying)
        if self.bells:
            unit.block.on_commit(self._ring, robust=True)
        return str(values["uid"])

    def _is_to_be_published(self, row: Any, report: Report) -> bool:
        """Tell whether it is its turn: not if one before it of the same key has failed."""
        return not (self._stopped or row.key in report.blocked())

    def _failed(self, report: Report, row: Any, error: BaseException) -> None:
        why = f"{type(error).__name__}: {error}"
        logger.warning("The message %s for %r was not published: %s", row.uid, row.topic, why)
        report.failed.append((row, why))

    def _settle(self, session: Any, report: Report) -> None:
        store.settle(session, report, attempts=self.attempts, backoff=self.backoff)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.db}>"


def dead_messages(session: Any) -> list[tuple[Message, str]]:
    """Return those that have failed too often, each with its last error."""
    return [(message_of(row), row.last_error or "") for row in store.dead(session)]
