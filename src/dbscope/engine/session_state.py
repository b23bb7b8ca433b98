"""`reset_session`: what a session of the server was left with ends when its connection comes back.

How it was when it had been set up, by its login, by us and by listeners to `connect`, is looked at
when it goes out for the first time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import NullPool

from dbscope.backends import registry
from dbscope.errors import ConfigurationError, DatabaseUnavailable
from dbscope.watch.events import ConnectionDiscarded

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine.interfaces import Dialect
    from sqlalchemy.pool import PoolResetState

    from dbscope.backends.base import Backend
    from dbscope.watch.dispatch import Events

KEPT = "dbscope.kept"


def check(dialect: Dialect | type[Dialect]) -> None:
    """Raise ConfigurationError if nothing is known of how a driver would do it."""
    if not registry.driver_of(dialect).resets_session:
        able = (name for each in registry.known() for name in each.resetting_drivers())
        raise ConfigurationError(
            f"`reset_session` was asked of the driver {dialect.driver!r}, where it would be "
            f"ignored; leave it out, or use one of {', '.join(dict.fromkeys(able))}."
        )


def install(engine: Engine, events: Events, backend: Backend) -> None:
    """Reset the sessions of an engine: once for its life, after the look at what comes back.

    Behind a pooler nothing is sent: the session is somebody else's already.
    """
    check(engine.dialect)  # which may be another one, if a session is routed to its engine
    if isinstance(engine.pool, NullPool):  # each session ends with its scope
        return

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, proxy: Any) -> None:  # noqa: ARG001
        if backend.is_pooled or KEPT in record.info:
            return
        try:
            record.info[KEPT] = backend.remember_session(connection, engine.dialect)
        except Exception as error:
            raise DatabaseUnavailable(
                f"The settings of a new session cannot be read, so `reset_session` could not "
                f"restore them: {error}."
            ) from error

    @event.listens_for(engine, "reset")
    def on_reset(connection: Any, record: Any, state: PoolResetState) -> None:
        kept = record.info.get(KEPT)
        if kept is None or state.terminate_only or not state.asyncio_safe:
            return
        try:
            backend.reset_session(connection, kept)
        except Exception as error:
            events.tell(ConnectionDiscarded, None, "", error)
            # It makes SQLAlchemy invalidate the connection.
            raise DisconnectionError("could not be reset") from error
