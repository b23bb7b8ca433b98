"""What the units of one database ask it for, on their way from the first statement to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from dbscope.backends import registry
from dbscope.backends.sandbox import is_sandboxed, set_readonly
from dbscope.engine import (
    begin,
    lost_answer,
    nested_connections,
    transaction,
)
from dbscope.engine.factory import Factory
from dbscope.engine.healing import Peers
from dbscope.engine.settings import values_of
from dbscope.errors import (
    TransactionEndedOutside,
)
from dbscope.unit import deadline
from dbscope.unit.block import Outcome
from dbscope.unit.policy import Mode
from dbscope.unit.unit import Unit
from dbscope.watch.events import OutcomeVerified

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncSession

    from dbscope.backends.driver import Driver
    from dbscope.unit.current import Scope


class EngineSource(Factory):
    """The engine and sessions of one database; the units are given this."""

    def make_unit(self, scope: Scope) -> Unit:
        """Return a new unit for this scope."""
        mode = scope.mode_of(self)
        if mode is Mode.READONLY:
            self.require("readonly")
        return Unit(self, scope, mode)

    def make_session(self) -> tuple[Session, Session | AsyncSession]:
        """Return a new plain session, and the object that people are given for it."""
        handle: Any = self.factory()
        session: Any = getattr(handle, "sync_session", handle)
        given: dict[str, Any] = session.__dict__.get("info") or {}
        if given.get("heal", self.events.listeners.heals):
            session.dbscope_peers = Peers(session)
        return session, handle

    def before_transaction(self, unit: Unit, bind: Engine | Connection) -> None:
        """Check the event loop, count second connections, and wait for the turn to write."""
        self.check_loop()
        if self.settings.session_settings is not None:
            unit.settings = values_of(self.settings.session_settings)
        if self.sandboxes.opened:
            return
        if self.sandboxes.was_opened:
            self.sandboxes.check()
        self.engines.require(bind, unit.scope)
        if unit.scope.parent is not None:
            self.seconds.want(unit, bind.engine)
        self.backend.before_transaction(unit)

    def before_write(self, unit: Unit) -> None:
        """Wait for the turn to write, if the transaction has only read so far."""
        if not self.sandboxes.opened:
            self.backend.before_write(unit)

    def bind_of(self, unit: Unit, bind: Engine | Connection) -> Engine | Connection:
        """Return the engine for the work of a unit: another one reads, or is a sandbox's."""
        if bind is not self.engines.plain:
            return bind
        if self.sandboxes.opened:
            return self.sandboxes.line().engine  # type: ignore[no-any-return]
        return (self.engines.reader or bind) if unit.is_readonly else bind

    def begin_with(self, unit: Unit, bind: Engine | Connection) -> Mapping[str, Any]:
        """Return SQLAlchemy's options for a transaction that is about to begin."""
        return begin.options_of(unit, bind, self.engines)

    def after_begin(self, unit: Unit, connection: Connection) -> None:
        """Send what the database is told of a transaction, now that it is known."""
        self.seconds.have(unit)
        if is_sandboxed(connection):
            set_readonly(connection, unit.is_readonly)
        else:
            transaction.refuse_autocommit(unit, connection, _driver_of(connection))
            self.backend.after_begin(unit, connection, has_reader=self.engines.has_reader)
        if unit.timed:
            self.backend.tell_deadline(unit, connection)
        if self.settings.session_settings is not None:
            self.backend.set_session(connection, unit.settings)

    def keep_time(self, unit: Unit) -> None:
        """Raise if the time of the unit is up; else tell the database what is left."""
        deadline.check(unit)
        if unit.connection is not None:
            self.backend.tell_deadline(unit, unit.connection)

    def before_commit(self, unit: Unit) -> None:
        """Look whether the transaction is still there, so that COMMIT is one."""
        connection = unit.connection
        if connection is None:
            return
        transaction.check(unit, connection, _driver_of(connection))
        if connection.invalidated:
            return
        if unit.timed:
            self.backend.forget_deadline(unit, connection)
        if self.sandboxes.opened:
            return
        if self.settings.verify_commit and unit.first_write is not None and unit.proof is None:
            self.backend.note_commit(unit, connection)

    def ended_outside(self, unit: Unit) -> TransactionEndedOutside | None:
        """Look whether the transaction is still there, so that ROLLBACK is one."""
        connection = unit.connection
        if connection is None or connection.invalidated or connection.closed:
            return None
        return transaction.ended(unit, connection, _driver_of(connection).transaction_status)

    def end_statement(self, unit: Unit, *, again: bool) -> bool:
        """End the statement that somebody else is in, who will come back; False: it has no use.

        A connection of a thread cannot be closed instead; that of a task can.
        """
        connection = unit.connection
        if connection is None or connection.invalidated or (again and self.is_async):
            return False
        return self.backend.stop(connection)

    def outcome_of(self, unit: Unit, *, is_cancelled: bool) -> Outcome:
        """Ask a fresh connection what became of a transaction whose COMMIT got no answer."""
        lasts = self.backend.outlives_cancellation if is_cancelled else lost_answer.as_found
        found = lost_answer.outcome(self.sync_engine, unit, lasts)
        if found is not Outcome.UNKNOWN:
            self.events.tell(OutcomeVerified, unit, found)
        return found

    def after_transaction(self, unit: Unit) -> None:
        """Let the next one write."""
        self.seconds.have(unit)
        self.backend.after_transaction(unit)

    def describe_wait(self, unit: Unit) -> str:
        """Say, for a PoolTimeout, who waited, and whether an outer scope held a connection."""
        message = f"{unit.scope} waited for a connection of {self}."
        holder = nested_connections.holder_around(self, unit)
        return message if holder is None else f"{message} {nested_connections.describe(holder)}"

    def check_second(self, unit: Unit) -> None:
        """Refuse a transaction of its own inside this one's, where it could never come to be."""
        self.backend.check_second(unit)
        if unit.connection is not None:
            nested_connections.check_room(self, unit)


def _driver_of(connection: Connection) -> Driver:
    return registry.driver_of(connection.engine.dialect)
