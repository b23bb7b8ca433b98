"""Why a connection could not be made: what has to be configured otherwise, or who is away."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import ResourceClosedError
from sqlalchemy.util import await_only

from dbscope.aio import threads
from dbscope.backends import errors
from dbscope.errors import ConfigurationError, DatabaseUnavailable, DBScopeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from dbscope.backends.base import Backend

SAY_WHY = "dbscope_say_why"  # among the attributes of an engine: what wraps a part of connecting
WRONG_OPTION = (
    "its driver cannot use one of the options of its URL or of `connect_args`, and does not say "
    "which; look for one that is misspelled, as a `charset` that there is not"
)


def install(engine: Engine, backend: Backend, name: str, perhaps: str = "") -> None:
    """Say what an error of connecting means: once for the life of an engine.

    All until the first statement of ours is connecting: the first questions of SQLAlchemy's
    dialect, what listeners to `connect` send, and the isolation level. Not by the event
    `do_connect`, where the first listener is the last: the user may have one.

    Args:
        engine: the engine.
        backend: that of its database.
        name: what messages call the database.
        perhaps: which options were given, if any, as the end of a sentence.
    """
    dialect: Any = engine.dialect
    say_why = partial(or_say_why, partial(meaning, engine, backend, name, perhaps))
    dialect.connect = partial(say_why, dialect.connect)
    dialect.initialize = partial(say_why, partial(initialize, dialect.initialize))
    dialect.set_isolation_level = partial(say_why, dialect.set_isolation_level)
    dialect.reset_isolation_level = partial(or_close, dialect, dialect.reset_isolation_level)
    vars(engine)[SAY_WHY] = say_why
    vars(engine)["raw_connection"] = partial(say_why, engine.raw_connection)


def or_say_why(
    means: Callable[[Exception], DBScopeError | None],
    work: Callable[..., Any],
    *args: Any,
    **kw: Any,
) -> Any:
    """Do a part of connecting, and raise what its error means."""
    try:
        return work(*args, **kw)
    except DBScopeError:
        raise
    except Exception as error:
        found = means(error)
        if found is None:
            raise
        raise found from error


def initialize(ask: Callable[[Connection], None], connection: Connection) -> None:
    """Let SQLAlchemy get to know the server; what ends the connection is told, whatever it makes.

    It may take the end of it for an answer, and would then believe that for good. And before 2.1 it
    sends a ROLLBACK, whose failure replaces a cancellation
    (https://github.com/sqlalchemy/sqlalchemy/blob/rel_2_0_41/lib/sqlalchemy/engine/create.py#L732).
    """
    try:
        ask(connection)
    except ResourceClosedError:
        pass
    except BaseException:
        if not (connection.closed or connection.invalidated):
            connection.invalidate()
        raise
    if connection.closed:
        raise ConnectionError("the connection was lost while the server was asked what it is")


def or_close(dialect: Any, reset: Callable[[Any], None], connection: Any) -> None:
    """Take the isolation level back, when all is done: a failure is none of who has done it.

    Whoever takes a closed connection from the pool is given another.
    """
    try:
        reset(connection)
    except Exception:
        with suppress(Exception):
            dialect.do_terminate(connection)


def meaning(
    engine: Engine, backend: Backend, name: str, perhaps: str, error: Exception
) -> DBScopeError | None:
    """Return what an error of connecting means; None: what it says."""
    if errors.is_unforeseen(error):
        told = f"{type(error).__name__}: {error}"
        return ConfigurationError(
            f"{name} cannot be connected to: {WRONG_OPTION} ({told}{perhaps})."
        )
    if errors.is_wrong_argument(error):
        return ConfigurationError(f"{name} cannot be connected to: {error}{perhaps}.")
    state = in_its_world(engine, backend.login_state, error)
    has_connected = getattr(engine.dialect, "server_version_info", None) is not None
    if errors.is_permanent(error, state, has_connected=has_connected):
        return ConfigurationError(f"{name} refused to connect us: {error}.")
    if why := in_its_world(engine, backend.why_not_connected, error):
        return ConfigurationError(f"{name} cannot be opened: {why}.")
    if errors.is_away(error, state):
        return DatabaseUnavailable(f"{name} cannot be reached: {error}.")
    return None


def in_its_world(
    engine: Engine, ask: Callable[[Exception], str | None], error: Exception
) -> str | None:
    """Ask what takes a while, in a thread if there is a loop that must go on."""
    if engine.dialect.is_async:
        return await_only(threads.in_thread(ask, error))
    return ask(error)
