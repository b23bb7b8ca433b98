"""What the log says of a transaction, under the name `dbscope`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dbscope.watch import events

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbscope.watch.events import Event

logger = logging.getLogger("dbscope")


def idle(event: events.IdleInTransaction) -> None:
    """Warn of who holds a transaction while it waits for something else."""
    logger.warning(
        "%s sat idle in a transaction for %.1f s, after %s and before %s; "
        "give the connection back before a slow call: `db.release()`.",
        event.unit.scope,
        event.seconds,
        event.after,
        event.before,
    )


def rollback_failed(event: events.RollbackFailed) -> None:
    """Report a ROLLBACK that has failed."""
    failed = "The rollback failed in %s, so its connection is discarded."
    logger.error(failed, event.unit.scope, exc_info=event.error)


def discarded(event: events.ConnectionDiscarded) -> None:
    """Report a connection that came back in a state which nobody can use it in."""
    if event.error is not None:
        told = "A session could not be reset; its connection is discarded: %s"
        logger.warning(told, event.error)
    elif event.why:
        where = "" if event.unit is None else f" from {event.unit.scope}"
        logger.error("A connection came back%s %s; it is discarded.", where, event.why)


def hook_failed(event: events.HookFailed) -> None:
    """Report a robust hook; the error of another one is raised, or logged with its scope."""
    if event.hook.robust:
        told = "The robust hook %s of %s failed."
        logger.error(told, event.hook, event.unit.scope, exc_info=event.error)


def attempt_failed(event: events.AttemptFailed) -> None:
    """Tell that work is done again."""
    logger.info(
        "Attempt %d of %s failed by %s; the next one is in %.3f s.",
        event.number,
        event.what,
        event.code,
        event.seconds,
    )


def closed_by_hand(event: events.ClosedByHand) -> None:
    """Warn of work that is undone by `session.close()`."""
    logger.warning(
        "%s was closed by hand at %s, which rolls back what it has written; the scope "
        "closes it, and `session.commit()` keeps what should be kept before that.",
        event.unit.scope,
        event.where,
    )


def outcome_not_found(event: events.OutcomeNotFound) -> None:
    """Say why nobody knows what became of a COMMIT."""
    told = "What became of the COMMIT of %s cannot be found out: %s"
    logger.warning(told, event.unit.scope, event.error)


def client_waits(event: events.ClientWaits) -> None:
    """Warn of a line that waits for its client while it holds a transaction."""
    told = "%s %s at %s while it holds a transaction: %s."
    logger.warning(told, event.scope, event.how, event.where, event.advice)


def success_rolled_back(event: events.SuccessRolledBack) -> None:
    """Warn of an answer that may be taken for a promise."""
    logger.warning(
        "%s is answered %d, and what it has written is rolled back, since %r left the endpoint; "
        "return the response instead of raising it, or keep the work: `db.keep(response)`.",
        event.scope,
        event.status,
        event.error,
    )


def failure_not_raised(event: events.FailureNotRaised) -> None:
    """Report what nobody else is told."""
    told = "Another failure at the end of %s."
    if event.part == "hook":
        told = "A hook of %s failed; the work is as it was decided."
    logger.error(told, event.what, exc_info=event.error)


LOGGED: dict[type[Event], Callable[[Any], None]] = {
    events.IdleInTransaction: idle,
    events.RollbackFailed: rollback_failed,
    events.ConnectionDiscarded: discarded,
    events.HookFailed: hook_failed,
    events.AttemptFailed: attempt_failed,
    events.ClosedByHand: closed_by_hand,
    events.OutcomeNotFound: outcome_not_found,
    events.ClientWaits: client_waits,
    events.FailureNotRaised: failure_not_raised,
    events.SuccessRolledBack: success_rolled_back,
}
