"""A look at each connection when it leaves the pool and when it comes back; no round trip.

SQLAlchemy resets a connection by what its adapter believes. When two tasks end one transaction,
or a cleanup runs in another task than the query, asyncpg's adapter forgets the transaction and the
pool takes the connection back in the middle of it, for ever
(https://github.com/sqlalchemy/sqlalchemy/issues/13381). The driver itself knows better.
"""

from __future__ import annotations

import select
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from dbscope.backends.driver import ConnectionStatus
from dbscope.backends.sockets import has_unread_bytes
from dbscope.errors import DatabaseUnavailable
from dbscope.watch.events import ConnectionDiscarded

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dbscope.backends.driver import Driver
    from dbscope.watch.dispatch import Events


def install(engine: Engine, driver: Driver, events: Events) -> None:
    """Watch over the pool of an engine: once for its life."""
    status = driver.status
    polled = driver.polled and hasattr(select, "poll")

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, proxy: Any) -> None:
        state = status(connection)
        has_unread = polled and has_unread_bytes(connection, record.info)
        if state is not ConnectionStatus.IDLE or has_unread:
            events.tell(ConnectionDiscarded, None, "")
            refused = record.record_info.get("dbscope.refused")
            if refused is not None and refused() is proxy:
                # SQLAlchemy gives up here, by an error that does not say why.
                raise DatabaseUnavailable("A new connection was closed as soon as it was made.")
            record.record_info["dbscope.refused"] = weakref.ref(proxy)
            raise DisconnectionError(f"found {state.value} in the pool")

    @event.listens_for(engine, "reset")
    def on_reset(connection: Any, record: Any, state: Any) -> None:
        if record is None:  # it was detached from the pool, and is its owner's
            return
        info = record.info
        unit = info.pop("dbscope.unit", None)
        info.pop("dbscope.begin", None)
        found = status(connection)
        if found is ConnectionStatus.IDLE:
            return
        events.tell(ConnectionDiscarded, unit, found.value)
        if found is not ConnectionStatus.CLOSED and state.asyncio_safe:
            engine.dialect.do_rollback(connection)
        # An error here makes SQLAlchemy invalidate the connection.
        raise DisconnectionError(f"came back {found.value}")
