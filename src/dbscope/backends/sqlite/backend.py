"""SQLite: what it can do, and how it is told."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbscope.backends import base, errors
from dbscope.backends.base import NOTHING, REFUSES, Backend, Options
from dbscope.backends.driver import ConnectionStatus
from dbscope.backends.features import Features
from dbscope.backends.sqlite import deadline, drivers, forks, recipe
from dbscope.backends.sqlite.alone import AloneInFile
from dbscope.backends.sqlite.write_queue import WriteQueue, write_queue
from dbscope.backends.upsert import on_conflict
from dbscope.errors import ConfigurationError, DatabaseUnavailable
from dbscope.sqlite_inline import files
from dbscope.sqlite_inline.pysqlite import on_top_of
from dbscope.unit.deadline import instead_of, patience

if TYPE_CHECKING:
    from sqlalchemy import URL, Column, Connection, Engine, Table
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.pool import ConnectionPoolEntry

    from dbscope.backends.doctor import Doctor
    from dbscope.backends.inserting import Inserting
    from dbscope.backends.migrating import Migrating
    from dbscope.unit.unit import Unit


class SQLite(Backend):
    """One file of SQLite, or one database in memory."""

    features = Features(
        name="sqlite",
        family="sqlite",
        commits_last=True,
        readonly=True,
        reader=True,
        statement_timeout=True,
        isolation=True,  # which is SERIALIZABLE always
        upsert=True,
        upsert_returns=True,
    )
    drivers = drivers.DRIVERS
    default_drivers = ("pysqlite", "inline")

    def __init__(self, url: URL, name: str, dialect: Dialect | type[Dialect]) -> None:
        super().__init__(url, name, dialect)
        self._queue: WriteQueue | None = None

    @property
    def queue(self) -> WriteQueue:
        """The queue of those who write to the file."""
        if self._queue is None:
            self._queue = write_queue(self.url)
        return self._queue

    @classmethod
    def doctor(cls) -> Doctor:
        """Return what `dbscope doctor` wants to know."""
        from dbscope.backends.sqlite.doctor import SQLiteDoctor

        return SQLiteDoctor()

    @classmethod
    def migrating(cls) -> Migrating:
        """Return what differs when revisions are written and run."""
        from dbscope.backends.sqlite.migrating import SQLiteMigrating

        return SQLiteMigrating()

    # -- engines -------------------------------------------------------------------------------

    @classmethod
    def check_url(cls, url: URL) -> None:
        """Raise ConfigurationError for a URL that names a server."""
        if url.host or url.username:
            raise ConfigurationError(
                f"A database of SQLite is a file and no server, and the URL names {url.host!r} as "
                "one; a file has three slashes: sqlite:///app.db."
            )

    @property
    def file(self) -> str | None:
        """The path of the file; None: in memory."""
        return files.path_of(self.url)

    @property
    def is_memory(self) -> bool:
        """Whether it is in memory."""
        return files.is_memory(self.url)

    @property
    def has_reader(self) -> bool:
        """Whether a second engine would see the same."""
        return not self.is_memory

    def engine_options(self, *, is_async: bool) -> dict[str, Any]:
        """Return what `create_engine` needs for the recipe."""
        return recipe.engine_options(self.url, is_async=is_async)

    def connect_args(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return them with our class of connections on top of the application's own."""
        return given | {"factory": on_top_of(given["factory"])} if "factory" in given else given

    def install(self, engine: Engine) -> None:
        """Refuse a file that was open when this process was forked."""
        file = files.path_of(engine.url)
        if file is not None:
            forks.watch(engine, file)

    def install_last(self, engine: Engine) -> None:
        """Make an engine follow the recipe."""
        recipe.install(engine)

    def refuse_writes(self, connection: Any, dialect: Any) -> None:  # noqa: ARG002
        """Make a new connection one that cannot write."""
        recipe.refuse_writes(connection)

    def why_not_connected(self, error: Exception) -> str | None:
        """Say which folder is missing, or that there is one where the file should be."""
        code = getattr(error, "sqlite_errorcode", None)
        if code is None or code & errors.PRIMARY != sqlite3.SQLITE_CANTOPEN:
            return None
        name = files.name_of(self.url)
        path = Path(name.removeprefix("file:").partition("?")[0]).absolute()
        if path.is_dir():
            return f"{path} is a folder"
        return None if path.parent.is_dir() else f"there is no folder {path.parent}"

    # -- transactions --------------------------------------------------------------------------

    def isolation_options(self, level: str) -> Options:  # noqa: ARG002
        """Return nothing: it is SERIALIZABLE always."""
        return NOTHING

    def before_transaction(self, unit: Unit) -> None:
        """Wait for the turn to write, if the unit is known to write."""
        if unit.is_readonly:
            return
        will_write = unit.first_write is not None
        if not unit.is_in_transaction:
            pass  # in autocommit a statement is all of its transaction
        elif unit.scope.will_write and not self.queue.is_held_around(unit):
            will_write = True
        if will_write:
            self.before_write(unit)

    def before_write(self, unit: Unit) -> None:
        """Wait for the turn to write, if the transaction has only read so far."""
        with instead_of(DatabaseUnavailable, unit):
            self.queue.enter(unit, patience(unit, recipe.BUSY_TIMEOUT))

    def after_begin(self, unit: Unit, connection: Connection, *, has_reader: bool) -> None:  # noqa: ARG002
        """Send BEGIN, now that it is known whether the unit will write."""
        try:
            if unit.is_alone:
                recipe.skip_begin(connection)
            elif recipe.has_begun(connection):
                is_writer = self.queue.writer is unit
                recipe.begin(connection, immediate=is_writer, scope=unit.scope)
            if unit.is_readonly and not connection.info.get(REFUSES):
                recipe.refuse_writes_for_now(connection)
        except BaseException as error:
            unit.mark_broken(error)
            raise

    def after_transaction(self, unit: Unit) -> None:
        """Let the next one write."""
        self.queue.leave(unit)

    def check_second(self, unit: Unit) -> None:
        """Refuse a writer inside this one: there is one at a time."""
        if self.queue.writer is unit:
            self.queue.refuse_second_writer(unit)

    def tell_deadline(self, unit: Unit, connection: Connection) -> None:
        """Let it interrupt the statement that takes longer."""
        deadline.tell(connection, unit.deadline)

    def forget_deadline(self, unit: Unit, connection: Connection) -> None:
        """Let statements take what they need."""
        deadline.tell(connection, None)
        unit.server_limit = None

    # -- failures ------------------------------------------------------------------------------

    def after_failure(self, unit: Unit, connection: Connection, error: BaseException) -> None:
        """See whether the whole transaction has ended.

        OR ROLLBACK, RAISE(ROLLBACK) and a full disk end all of it, savepoints by hand too
        (https://sqlite.org/lang_conflict.html).
        """
        status = drivers.DRIVERS["pysqlite"].status(connection.connection.dbapi_connection)
        if unit.blocks and status is not ConnectionStatus.IN_TRANSACTION:
            unit.break_all(error)

    def interrupt(self, connection: Connection) -> None:
        """Stop the statement that a cancelled task has left running in aiosqlite's thread."""
        recipe.interrupt(connection)

    def stop(self, connection: Connection) -> bool:
        """Interrupt the statement; to close the connection in it would end the process."""
        driver: Any = connection.connection.driver_connection
        file = getattr(driver, "_connection", driver)  # aiosqlite's
        if not isinstance(file, sqlite3.Connection):
            return False
        file.interrupt()
        return True

    # -- statements ----------------------------------------------------------------------------

    @classmethod
    def upsert(cls, model: type[Any], values: Any, **row: Any) -> Any:
        """Return INSERT … ON CONFLICT … DO UPDATE."""
        from sqlalchemy.dialects.sqlite import insert

        return on_conflict(insert(model), values, **row)

    @classmethod
    def inserting(cls, table: Table, writer: Column[Any]) -> Inserting:
        """Return how rows are inserted unless they are there."""
        from dbscope.backends.sqlite.inserting import SQLiteInserting

        return SQLiteInserting(table, writer)

    # -- what a watch asks ---------------------------------------------------------------------

    def plan(self, connection: Connection, sql: str) -> list[str]:
        """Return the plan, for which SQLite runs nothing, and does not look at the values.

        https://sqlite.org/eqp.html
        """
        values = (None,) * sql.count("?")
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
        depth: dict[int, int] = {0: -1}
        for number, parent, *_ in rows:
            depth[number] = depth.get(parent, -1) + 1
        return ["  " * depth[number] + told for number, _, _, told in rows]

    # -- locks and forks -----------------------------------------------------------------------

    def alone(self, what: str) -> AloneInFile:
        """Return a lock beside the file: rows have none."""
        return AloneInFile(self.url, what)

    def schema_lock(self, connection: Connection) -> Any:
        """Begin with the lock to write."""
        recipe.begin(connection, immediate=True)
        return super().schema_lock(connection)

    def close_idle(self, engine: Engine) -> list[ConnectionPoolEntry]:
        """Close the file where nobody uses it."""
        return forks.close_idle(engine)


base.after_fork.append(forks.start_anew)
