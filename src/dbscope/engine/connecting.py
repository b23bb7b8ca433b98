"""Why a connection could not be made: what has to be configured otherwise, or who is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.util import await_only

from dbscope.aio import threads
from dbscope.backends import errors
from dbscope.errors import ConfigurationError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from dbscope.backends.base import Backend
    from dbscope.errors import DBScopeError

WRONG_OPTION = (
    "its driver cannot use one of the options of its URL or of `connect_args`, and does not say "
    "which; look for one that is misspelled, as a `charset` that there is not"
)


def install(engine: Engine, backend: Backend, name: str) -> None:
    """Say what an error of connecting means: once for the life of an engine.

    Not by its event `do_connect`, where the first listener is the last: the user may have one.

    Args:
        engine: the engine.
        backend: that of its database.
        name: what messages call the database.
    """
    connect = engine.dialect.connect

    def connect_or_say_why(*args: Any, **kwargs: Any) -> Any:
        try:
            return connect(*args, **kwargs)
        except Exception as error:
            found = meaning(engine, backend, name, error)
            if found is None:
                raise
            raise found from error

    engine.dialect.connect = connect_or_say_why  # type: ignore[method-assign]


def meaning(engine: Engine, backend: Backend, name: str, error: Exception) -> DBScopeError | None:
    """Return what an error of connecting means; None: what it says."""
    if errors.is_unforeseen(error):
        told = f"{type(error).__name__}: {error}"
        return ConfigurationError(f"{name} cannot be connected to: {WRONG_OPTION} ({told}).")
    if errors.is_wrong_argument(error):
        return ConfigurationError(f"{name} cannot be connected to: {error}.")
    state = in_its_world(engine, backend.login_state, error)
    if errors.is_permanent(error, state):
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
