"""Why a connection could not be made: what has to be configured otherwise, or who is away."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from dbscope.aio import threads
from dbscope.backends import errors
from dbscope.backends.postgresql import login
from dbscope.errors import ConfigurationError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from dbscope.errors import DBScopeError


def install(engine: Engine, name: str) -> None:
    """Say what an error of connecting means: once for the life of an engine.

    Not by its event `do_connect`, where the first listener is the last: the user may have one.

    Args:
        engine: the engine.
        name: what messages call the database.
    """
    connect = engine.dialect.connect

    def connect_or_say_why(*args: Any, **kwargs: Any) -> Any:
        try:
            return connect(*args, **kwargs)
        except Exception as error:
            found = meaning(engine, name, error)
            if found is None:
                raise
            raise found from error

    engine.dialect.connect = connect_or_say_why  # type: ignore[method-assign]


def meaning(engine: Engine, name: str, error: Exception) -> DBScopeError | None:
    """Return what an error of connecting means; None: what it says."""
    if isinstance(error, TypeError):  # an argument that the driver does not know
        return ConfigurationError(f"{name} cannot be connected to: {error}.")
    state = in_its_world(engine, state_of, error)
    if errors.is_permanent(error, state):
        return ConfigurationError(f"{name} does not let us in: {error}.")
    if folder := in_its_world(engine, missing_folder, error):
        return ConfigurationError(f"{name} cannot be opened: there is no folder {folder}.")
    if errors.is_away(error, state):
        return DatabaseUnavailable(f"{name} cannot be reached: {error}.")
    return None


def in_its_world(
    engine: Engine, ask: Callable[[Engine, Exception], Any | None], error: Exception
) -> Any:
    """Ask what takes a while, in a thread if there is a loop that must go on."""
    if engine.dialect.is_async:
        return await_only(threads.in_thread(ask, engine, error))
    return ask(engine, error)


def state_of(engine: Engine, error: Exception) -> str | None:  # noqa: ARG001
    """Return the SQLSTATE of an error of connecting."""
    if not login.is_psycopg(error):
        return errors.sqlstate(error)
    if errors.is_permanent(error, None):  # by its words: no need to ask for the code
        return None
    return login.state_of(error)


def missing_folder(engine: Engine, error: Exception) -> Path | None:
    """Return the folder of a SQLite database whose file cannot be made because it is not there."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None or code & errors.PRIMARY != sqlite3.SQLITE_CANTOPEN:
        return None
    name = engine.url.database or ""
    folder = Path(name.removeprefix("file:").partition("?")[0]).absolute().parent
    return None if folder.is_dir() else folder
