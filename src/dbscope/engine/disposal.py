"""The end of a pool, while some of its connections are out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event

if TYPE_CHECKING:
    from sqlalchemy import Engine


def dispose(engine: Engine) -> None:
    """Close the connections of an engine: those that are out, when they come back.

    SQLAlchemy lets these go back to the pool that was left, where nobody would ever close them
    (https://docs.sqlalchemy.org/en/20/core/connections.html#engine-disposal).
    """
    pool = engine.pool
    engine.dispose()
    event.listen(pool, "checkin", _close)
    pool.dispose()  # what came back between the two


def _close(connection: Any, record: Any) -> None:  # noqa: ARG001
    record.close()
