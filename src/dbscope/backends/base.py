"""The seam between us and a database: what one is asked for, and refuses unless it can do it.

Each kind of database has a package with a subclass of `Backend`, and one of `Driver` for each
driver whose state can be known; nothing else names a database or a driver.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from dbscope.backends.connecting import Connecting
from dbscope.backends.driver import Driver
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Column, ColumnElement, Connection, Engine, Insert, Table
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from dbscope.backends.alone import Alone
    from dbscope.backends.doctor import Doctor
    from dbscope.backends.inserting import Inserting
    from dbscope.backends.lock_waits import LockWaits
    from dbscope.backends.migrating import Migrating
    from dbscope.backends.notifications import Notifications
    from dbscope.unit.unit import Unit

Options = Mapping[str, Any]
# Given a cursor, its connection, what it has raised, and whether it was the first of a unit's.
Renew = Callable[[Any, Any, Exception, bool], bool]

NOTHING: Options = {}
CANCEL_TIMEOUT = 1.0  # seconds, for what asks a server to end a statement
REFUSES = "dbscope.refuses"  # in the info of a connection that was made one that cannot write
# What is known of the files that were open, in a child that was forked.
after_fork: list[Callable[[Iterable[str | None]], None]] = []


class Backend(Connecting):
    """One database: what it can do, and how it is told. Whatever is not overridden is not there."""

    drivers: ClassVar[Mapping[str, Driver]] = {}
    default_drivers: ClassVar[tuple[str, str]] = ("", "")  # of `Database`, of `AsyncDatabase`
    alone_options: ClassVar[Options] = NOTHING  # of a statement that needs no transaction
    readonly_options: ClassVar[Options] = NOTHING  # of BEGIN READ ONLY

    @classmethod
    def resetting_drivers(cls) -> list[str]:
        """Return the drivers of which it is known how they make a session what it was."""
        return [name for name, driver in cls.drivers.items() if driver.resets_session]

    # -- tools -------------------------------------------------------------------------------

    @classmethod
    def doctor(cls) -> Doctor:
        """Return what `dbscope doctor` wants to know; imported when it is asked for."""
        from dbscope.backends.doctor import Doctor

        return Doctor()

    @classmethod
    def migrating(cls) -> Migrating:
        """Return what differs when revisions are written and run; imported when it is asked for."""
        from dbscope.backends.migrating import Migrating

        return Migrating()

    # -- transactions --------------------------------------------------------------------------

    def isolation_options(self, level: str) -> Options:
        """Return SQLAlchemy's option for an isolation level."""
        return {"isolation_level": level}

    def before_transaction(self, unit: Unit) -> None:
        """Wait for what the unit must have before its transaction takes a connection."""

    def before_write(self, unit: Unit) -> None:
        """Wait for what a transaction must have that begins to write only now."""

    def after_begin(self, unit: Unit, connection: Connection, *, has_reader: bool) -> None:
        """Send what the database is told of a transaction, now that it is known."""

    def after_transaction(self, unit: Unit) -> None:
        """Give back what `before_transaction` and `before_write` have waited for."""

    def check_second(self, unit: Unit) -> None:
        """Refuse a transaction of its own inside this one's, if it could never come to be."""

    def tell_deadline(self, unit: Unit, connection: Connection) -> None:  # noqa: ARG002
        """Tell the database the time that is left, if it does not know yet."""
        self.refuse("statement_timeout")

    def forget_deadline(self, unit: Unit, connection: Connection) -> None:
        """Tell the database that the deadline is no more: COMMIT may take as long as it needs."""

    def set_session(self, connection: Connection, values: Mapping[str, str]) -> None:  # noqa: ARG002
        """Set these values for the transaction that has just begun."""
        self.refuse("session_settings")

    def note_commit(self, unit: Unit, connection: Connection) -> None:  # noqa: ARG002
        """Note as `unit.proof` by what a lost answer to COMMIT can be found out."""
        self.refuse("verify_commit")

    def outlives_cancellation(self, connection: Connection) -> bool:  # noqa: ARG002
        """Tell whether what a cancelled COMMIT has stored is as safe as what others have."""
        return True

    # -- failures ------------------------------------------------------------------------------

    def after_failure(self, unit: Unit, connection: Connection, error: BaseException) -> None:
        """See whether a failed statement has ended more than itself."""

    def blame(self, error: BaseException) -> str | None:  # noqa: ARG002
        """Say whether an error is that of somebody in between; None: it is not."""
        return None

    def is_too_large(self, context: ExceptionContext) -> bool:  # noqa: ARG002
        """Tell whether a statement was larger than the server takes: the fault of who sends it."""
        return False

    def became_read_only(self, connection: Connection) -> bool:  # noqa: ARG002
        """Tell whether it is the session that cannot write any more, and not its transaction."""
        return False

    def renewing(self, engine: Engine) -> Renew:  # noqa: ARG002
        """Return what tells whether a statement that has failed is to be sent once more."""
        return never

    def interrupt(self, connection: Connection) -> None:
        """End what a cancelled task has left running on a connection."""

    def stop(self, connection: Connection) -> bool:  # noqa: ARG002
        """Let the statement fail that another thread or task is in; False: there is no way."""
        return False

    # -- what a watch asks ---------------------------------------------------------------------

    def process_of(self, connection: Connection) -> int | None:  # noqa: ARG002
        """Return the process of the server behind a connection; None: nobody knows."""
        return None

    def lock_waits(self, options: Mapping[str, Any]) -> LockWaits | None:  # noqa: ARG002
        """Return who can ask which processes of the server wait for whom; None: nobody can.

        Args:
            options: of the engine.
        """
        return None

    def plan(self, connection: Connection, sql: str) -> list[str]:  # noqa: ARG002
        """Return how a SELECT would be done, in lines; it is not done, and nothing can be written.

        Args:
            connection: whose transaction has just begun, and is rolled back afterwards.
            sql: with ? for each value; the values are not known.

        Raises:
            ConfigurationError: nobody knows without the values.
        """
        raise ConfigurationError(f"How {self.name} would do it is not known here.")

    # -- the state of a session ----------------------------------------------------------------

    def remember_session(self, connection: Any, dialect: Any) -> Any:  # noqa: ARG002
        """Return how to make a session what it is now, when all have set it up."""
        self.refuse("reset_session")

    def reset_session(self, connection: Any, kept: Any) -> None:  # noqa: ARG002
        """Make a session what it was."""
        self.refuse("reset_session")

    # -- locks ---------------------------------------------------------------------------------

    def schema_lock(self, connection: Connection) -> AbstractContextManager[object]:  # noqa: ARG002
        """Let nobody else create tables meanwhile."""
        return nullcontext()

    def lock(self, connection: Connection, key: str, timeout: float | None) -> bool:  # noqa: ARG002
        """Take a lock by a name, for the session; False: somebody else has it for too long.

        Args:
            connection: which keeps it.
            key: its name.
            timeout: seconds; None: as long as it takes.

        Raises:
            ConfigurationError: the session would not be ours.
        """
        self.refuse("advisory_locks")

    def unlock(self, connection: Connection, key: str) -> bool:  # noqa: ARG002
        """Give it back; False: the server does not know of it."""
        self.refuse("advisory_locks")

    # -- statements ----------------------------------------------------------------------------

    @classmethod
    def upsert(
        cls,
        model: type[Any],
        values: Any,
        *,
        key: Sequence[Column[Any]],
        where: ColumnElement[bool] | None,
        given: Collection[Column[Any]],
        changes: Callable[[Any], dict[str, Any]],
    ) -> Any:
        """Return INSERT, which changes the row that is there: for who has the feature.

        Args:
            model: whose row.
            values: of one row, or a list of those of several.
            key: the columns that are unique together.
            where: the condition of their index, if it is partial.
            given: the columns that have values.
            changes: given the columns as they would have been inserted, what is set.

        Raises:
            ConfigurationError: the database cannot tell the row by that key.
        """
        raise NotImplementedError

    @classmethod
    def inserting(cls, table: Table, writer: Column[Any]) -> Inserting | None:  # noqa: ARG003
        """Return how rows are inserted unless they are there; None: that is not known.

        Args:
            table: whose key is one column, of the hex digits of a digest.
            writer: the column that says who has written a row.
        """
        return None

    # -- what is done beside transactions ------------------------------------------------------

    def alone(self, what: str) -> Alone | None:  # noqa: ARG002
        """Return the lock of the one who does something; None: several may, and lock rows.

        Args:
            what: is done, as a word.
        """
        return None

    def notifying(self, insert: Insert, channel: str) -> Any:  # noqa: ARG002
        """Return an INSERT by which who listens is told when it is committed, if anybody can be."""
        return insert

    def notifications(
        self,
        engine: Engine | AsyncEngine,  # noqa: ARG002
        channel: str,  # noqa: ARG002
    ) -> Notifications | None:
        """Return who hears what is told by this channel; None: nobody does.

        Args:
            engine: of that connections are taken.
            channel: its name.
        """
        return None

    # -- forks ---------------------------------------------------------------------------------

    def close_idle(self, engine: Engine) -> list[ConnectionPoolEntry]:  # noqa: ARG002
        """Close what nobody uses and what may not be open across a fork; return whose it was."""
        return []


def never(*args: object) -> bool:  # noqa: ARG001
    """Send no statement once more."""
    return False


def info_of(connection: Connection) -> dict[str, Any]:
    """Return what is noted of a connection; of the one that gets to know the server is nothing."""
    try:
        return connection.info
    except NotImplementedError:
        return {}


def unit_of(connection: Connection) -> Unit | None:
    """Return the unit that a connection serves."""
    return info_of(connection).get("dbscope.unit")
