"""What differs between databases when revisions are written and run; Alembic is not needed here."""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from dbscope.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine, MetaData
    from sqlalchemy.types import TypeEngine

POLL = 0.1  # seconds
STILL = "dbscope_still_locked"  # an execution option: what to call to be sure of the lock


class ForeignKeys(Protocol):
    """Keeps foreign keys out of the way while a revision changes tables."""

    def kept(self) -> AbstractContextManager[None]:
        """Leave the connection as it was."""
        ...

    def prepare(self, *, enforced: bool) -> None:
        """Switch them on or off for the next revision, outside of any transaction."""
        ...

    def guarded(self, revision: Callable[..., None], undo: Callable[[], None]) -> Any:
        """Return a revision that may drop tables although foreign keys are enforced.

        Args:
            revision: the function of it.
            undo: forget what it has done besides.
        """
        ...

    def check(self) -> None:
        """Raise ValueError if the revision leaves references that lead nowhere."""
        ...


class Migrating:
    """What a database needs; this one stands for all of which nothing is known."""

    batch_mode = False  # a table is changed by making a new one in its place
    transactional_ddl: bool | None = None  # None: as Alembic says
    drop_temporary = "DROP TABLE"  # without ending the transaction

    # -- connections ---------------------------------------------------------------------------

    @contextmanager
    def lock(self, engine: Engine, timeout: float, *, alone: bool) -> Generator[Connection]:  # noqa: ARG002
        """Give a connection while nobody else migrates the database.

        Args:
            engine: with a pool of its own; disposing it gives the lock back.
            timeout: seconds.
            alone: nobody else does, so no lock is needed that others see.

        Raises:
            MigrationError: the time was up; it says who has the lock. Or there is no lock that
                holds.
        """
        if not alone:
            raise MigrationError(
                f"No lock is known for a database that is called {engine.dialect.name!r}, and two "
                "processes might migrate at once. Let one process migrate, in a step of the "
                "deployment: `dbscope upgrade --alone`, and the application at_start('check'). "
                "Or, if there is one process only: Migrations(db, alone=True)."
            )
        with engine.connect() as connection:
            yield connection

    def begin(self, seconds: float) -> Sequence[str]:  # noqa: ARG002
        """Return the statements with which a transaction begins.

        Args:
            seconds: how long to wait for a lock that somebody's transaction holds.
        """
        return ()

    def begin_session(self, seconds: float) -> Sequence[str]:  # noqa: ARG002
        """Return the statements before one that is in no transaction, in a session of ours."""
        return ()

    # -- tables --------------------------------------------------------------------------------

    def hidden_tables(self, connection: Connection) -> frozenset[str]:  # noqa: ARG002
        """Return the tables that no `create_table` makes."""
        return frozenset()

    def around(self, connection: Connection) -> AbstractContextManager[None]:  # noqa: ARG002
        """Keep, in this block, what belongs to a table that is changed."""
        return nullcontext()

    def foreign_keys(self, connection: Connection) -> ForeignKeys | None:  # noqa: ARG002
        """Return what keeps foreign keys out of the way; None: they are not in it."""
        return None

    def invalid_indexes(self, connection: Connection) -> frozenset[str]:  # noqa: ARG002
        """Return the indexes that were begun outside of a transaction, and not finished."""
        return frozenset()

    # -- types ---------------------------------------------------------------------------------

    def renders(self, type_: TypeEngine[Any]) -> bool:  # noqa: ARG002
        """Tell whether Alembic itself writes a type of this database best."""
        return False

    def complete(self, upgrade: Any, downgrade: Any, models: Sequence[MetaData]) -> None:
        """Add to a revision what the database needs besides, whichever is connected.

        Args:
            upgrade: the operations that are about to be written.
            downgrade: the same.
            models: the metadata of the application.
        """


def wait_for(ask: Callable[[], bool], who: Callable[[], str | None], timeout: float) -> None:
    """Ask for the lock until it is given.

    Args:
        ask: tells whether it is.
        who: says who has it.
        timeout: seconds.

    Raises:
        MigrationError: the time was up.
    """
    deadline = time.monotonic() + timeout
    while not ask():
        if time.monotonic() >= deadline:
            raise MigrationError(
                f"Another process is migrating this database ({who() or 'it is just done'}), and "
                f"was not done within {timeout:g} s. Start again when it is, or allow it more: "
                "Migrations(db, lock_timeout=...)."
            )
        time.sleep(POLL)


def me() -> str:
    """Return what others are told of who migrates."""
    name = f"dbscope migrating, process {os.getpid()} on {socket.gethostname()}"
    return name[:63]  # that long a name may be


def still_held(connection: Connection) -> None:
    """Raise MigrationError if the lock of a connection was lost, which only a second one can."""
    still: Callable[[], None] | None = connection.get_execution_options().get(STILL)
    if still is not None:
        still()


def rollback(connection: Connection) -> None:
    """Roll back for certain.

    SQLite stays in a transaction whose COMMIT has failed, and SQLAlchemy does not know.
    """
    connection.rollback()
    connection.dialect.do_rollback(connection.connection)


def rounded(seconds: float) -> int:
    """Return it in the whole unit of a setting, where 0 would be: as long as it takes."""
    return max(1, round(seconds))
