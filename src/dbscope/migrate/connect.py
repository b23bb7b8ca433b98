"""The connection of a migration: its own, never one of the pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from dbscope import AsyncDatabase, ConfigurationError, Database
from dbscope.aio.run import carried
from dbscope.backends.errors import TOLD_BY_OWNER
from dbscope.backends.migrating import STILL
from dbscope.backends.registry import migrating_of

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long to wait for others.

    Args:
        lock: seconds, for another process that is migrating.
        ddl: seconds, of a statement for a lock that somebody's transaction holds.
        alone: nobody else migrates, where no lock is seen by all (on Galera, say).
    """

    lock: float = 60.0
    ddl: float = 10.0
    alone: bool = False


def seconds(name: str, value: Any) -> float:
    """Return the value, if it is a number of seconds.

    Raises:
        ConfigurationError: it is none.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be a number of seconds, not {value!r}.")
    return float(value)


def look(db: Database[Any] | AsyncDatabase[Any], work: Callable[[Connection], T]) -> T:
    """Call with a connection that is to read: each statement for itself, nothing locked."""
    return _carry(db, partial(_look, db, work))


def alone(
    db: Database[Any] | AsyncDatabase[Any], work: Callable[[Connection], T], patience: Patience
) -> T:
    """Call with a connection that is to migrate, while no other process does.

    A database in memory has nobody to be alone from.

    Raises:
        MigrationError: another process has been migrating for longer than that.
    """
    return _carry(db, partial(_alone, db, work, patience))


def _carry(db: Database[Any] | AsyncDatabase[Any], work: Callable[[], T]) -> T:
    return carried(work) if db.is_async else work()


def _plain(db: Database[Any] | AsyncDatabase[Any]) -> Engine:
    engine = db.engine
    return engine.sync_engine if isinstance(engine, AsyncEngine) else engine


def _look(db: Database[Any] | AsyncDatabase[Any], work: Callable[[Connection], T]) -> T:
    engine = _plain(db)
    if db.backend.is_memory:
        with engine.connect() as connection:
            return work(connection)
    own = _own(engine)
    try:
        with own.connect() as connection:
            return work(connection.execution_options(isolation_level="AUTOCOMMIT"))
    finally:
        own.dispose()


def _alone(
    db: Database[Any] | AsyncDatabase[Any], work: Callable[[Connection], T], patience: Patience
) -> T:
    engine, lock = _plain(db), db.backend.migrating().lock
    if db.backend.is_memory:
        with engine.connect() as connection:
            return work(connection)
    own = _own(engine)
    _begin_with(own, patience.ddl)
    try:
        with lock(own, patience.lock, alone=patience.alone) as connection:
            return work(connection)
    finally:
        own.dispose()


def _own(engine: Engine) -> Engine:
    """Return an engine with connections of its own, made as those of the other are.

    The pool of an application has room for its requests, belongs to its event loop, and must not
    get back a connection with our settings.
    """
    return Engine(
        engine.pool.recreate(),
        engine.dialect,
        engine.url,
        hide_parameters=engine.hide_parameters,
        execution_options={TOLD_BY_OWNER: True},
    )


def _begin_with(engine: Engine, seconds: float) -> None:
    """Let transactions begin so that they are real ones, and wait for locks no longer than that.

    A waiting ALTER TABLE makes all later queries of the table wait behind it
    (https://www.postgresql.org/docs/current/explicit-locking.html).
    """
    migrating = migrating_of(engine.dialect)
    transaction, session = migrating.begin(seconds), migrating.begin_session(seconds)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        statements = transaction
        if options.get("isolation_level") == "AUTOCOMMIT":
            # For the session, if it is our own: a pooler would give it to others.
            statements = () if STILL in options else session
        for statement in statements:
            connection.exec_driver_sql(statement)
