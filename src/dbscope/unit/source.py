"""What a unit is given by its database; the engine's side of it is `engine/source.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from dbscope.unit.block import Outcome
    from dbscope.unit.current import Scope
    from dbscope.unit.hooks import Hook
    from dbscope.unit.ownership import Concurrency
    from dbscope.unit.policy import AtomicRequests
    from dbscope.unit.unit import Unit
    from dbscope.watch.dispatch import Events


class Proof(Protocol):
    """What the database keeps of a transaction, by which a lost answer to COMMIT is found out."""

    def outcome(self, connection: Connection) -> Outcome | None:
        """Return what became of the transaction, as a fresh connection sees it.

        Returns:
            UNKNOWN if it cannot tell; None if that is not decided yet, so that it is asked again.
        """
        ...


class Source(Protocol):
    """What a unit is given by its database."""

    events: Events
    watching: Any  # what whoever watches may ask
    name: str
    pool_name: str  # what metrics call its pool
    sql_family: str  # whose SQL it understands
    retry_codes: Collection[str]  # that are conflicts, too
    is_async: bool
    is_loops_own: bool  # it may wait on an event loop
    commits_last: bool  # among several databases
    forbid_manual_commit: bool
    atomic_requests: AtomicRequests
    finish_timeout: float
    idle_limit: float | None  # seconds
    client_wait: float | None  # seconds
    always_begins: bool  # a transaction for each read too
    run_pending_hooks: Callable[[Unit], None]  # runs the hooks that a commit by hand made due
    captures: Callable[[list[Hook]], list[Hook]] | None  # a test: what is due, and what of it runs

    @property
    def driver(self) -> Any:
        """Return what is known of its driver; nothing, as long as there is no engine."""
        ...

    @property
    def world(self) -> Concurrency:
        """Return how its units wait."""
        ...

    def has_sandbox(self) -> bool:
        """Tell whether a test has a sandbox of it open."""
        ...

    def require(self, *features: str) -> None:
        """Raise ConfigurationError for what its database would ignore."""
        ...

    def check_loop(self) -> None:
        """Let the database be used in the event loop that runs, or raise ConfigurationError."""
        ...

    def make_unit(self, scope: Scope) -> Unit:
        """Return a new unit for this scope."""
        ...

    def make_session(self) -> tuple[Session, Any]:
        """Return a new session, and the object that people are given for it."""
        ...

    def bind_of(self, unit: Any, bind: Any) -> Any:
        """Return the engine for the work of a unit, which may be another one."""
        ...

    def begin_with(self, unit: Unit, bind: Any) -> Mapping[str, Any]:
        """Return SQLAlchemy's options for a transaction that is about to begin."""
        ...

    def keep_time(self, unit: Unit) -> None:
        """Raise if the time of the unit is up; else tell the database what is left."""
        ...

    def before_transaction(self, unit: Unit, bind: Any) -> None:
        """Check and get what the unit must have before its transaction takes a connection."""
        ...

    def before_write(self, unit: Unit) -> None:
        """Get what a transaction must have that begins to write only now."""
        ...

    def after_begin(self, unit: Unit, connection: Connection) -> None:
        """Send what the database wants to hear first."""
        ...

    def before_commit(self, unit: Unit) -> None:
        """Look whether the server would answer COMMIT with ROLLBACK."""
        ...

    def ended_outside(self, unit: Unit) -> Exception | None:
        """Look whether the server would have nothing to roll back; return the error for that."""
        ...

    def end_statement(self, unit: Unit, *, again: bool) -> bool:
        """End the statement that somebody else is in, who will come back; False: it has no use."""
        ...

    def outcome_of(self, unit: Unit, *, is_cancelled: bool) -> Outcome:
        """Ask what became of a transaction whose COMMIT got no answer, or was cancelled by us."""
        ...

    def after_transaction(self, unit: Unit) -> None:
        """Give back what `before_transaction` got."""
        ...

    def check_second(self, unit: Unit) -> None:
        """Refuse a transaction of its own inside this one's, where it could never come to be."""
        ...

    def describe_wait(self, unit: Unit) -> str:
        """Say who waited for a connection in vain."""
        ...
