"""What `db.stats()` counts: each counter is the number of times that something was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbscope.watch import events

if TYPE_CHECKING:
    from dbscope.watch.events import Event

COUNTED: dict[type[Event], str] = {
    events.SessionOpened: "sessions",
    events.TransactionBegun: "transactions",  # for which BEGIN was sent
    events.Committed: "commits",
    events.RolledBack: "rollbacks",
    events.FailureSwallowed: "unexpected_rollbacks",
    events.OutcomeUnknown: "outcomes_unknown",  # the answer to COMMIT was lost
    events.OutcomeVerified: "outcomes_verified",  # … and found out
    events.IdleInTransaction: "idle_warnings",
    events.ClientTimedOut: "client_timeouts",  # a transaction waited for its client
    events.ConcurrentUseRefused: "concurrent_uses",
    events.SecondConnectionTaken: "second_connections",  # while a scope around held one
    events.ConnectionDiscarded: "connections_discarded",  # found closed, or in a transaction
    events.HookBegun: "hooks_run",
    events.HookFailed: "hooks_failed",
}
