"""Why a connection could not be made: what has to be configured otherwise, or who is away."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from dbscope.backends.postgresql import login
from dbscope.engine import carry, faults
from dbscope.errors import ConfigurationError, DatabaseUnavailable

if TYPE_CHECKING:
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
    state = state_of(error, is_async=engine.dialect.is_async)
    if faults.is_permanent(error, state):
        return ConfigurationError(f"{name} does not let us in: {error}.")
    if engine.dialect.name == "sqlite" and (folder := missing_folder(engine, error)):
        return ConfigurationError(f"{name} cannot be opened: there is no folder {folder}.")
    if faults.is_away(error, state):
        return DatabaseUnavailable(f"{name} cannot be reached: {error}.")
    return None


def state_of(error: Exception, *, is_async: bool) -> str | None:
    """Return the SQLSTATE of an error of connecting."""
    if not login.is_psycopg(error):
        return faults.sqlstate(error)
    if is_async:
        return await_only(carry.in_thread(login.state_of, error))
    return login.state_of(error)


def missing_folder(engine: Engine, error: BaseException) -> Path | None:
    """Return the folder of a SQLite database, if it is not there, and the file cannot be for that."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None or code & faults.PRIMARY != sqlite3.SQLITE_CANTOPEN:
        return None
    name = engine.url.database or ""
    folder = Path(name.removeprefix("file:").partition("?")[0]).absolute().parent
    return None if folder.is_dir() else folder
