"""Telling those who listen of what the engine does, where somebody does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import QueuePool

from dbscope.engine.pool import capacity
from dbscope.watch.dispatch import call, complain
from dbscope.watch.events import ConnectionWanted, StatementBegun, StatementEnded

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from dbscope.unit.unit import Unit

WITH_PARAMETERS = 4  # arguments of `do_execute`: cursor, statement, parameters, context


def execute(unit: Unit, send: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Send a statement, and tell of its begin and its end.

    Args:
        unit: whose statement it is.
        send: the dialect's own way to send it.
        *args: of that: the cursor, the statement, its parameters if any, and the context.
        **kwargs: the same.
    """
    listeners, context = unit.source.events.listeners, args[-1]
    parameters = args[2] if len(args) == WITH_PARAMETERS else None
    direct, others = listeners.direct, listeners.others
    if direct is not None:
        direct.begin(unit, args[1], parameters, context)
    if others:
        call(StatementBegun(unit, args[1], parameters, context), others)
    if listeners.comment is not None:  # behind the listeners, to whom it is the same statement
        sql = commented(listeners.comment, unit, args)
        args = (args[0], sql, *args[2:])
    failure: BaseException | None = None
    try:
        send(*args, **kwargs)
    except BaseException as error:
        failure = error
        raise
    finally:
        if direct is not None:
            direct.end(unit, context, failure)
        if others:
            call(StatementEnded(unit, context, failure), others)


def commented(comment: Callable[..., str], unit: Unit, args: tuple[Any, ...]) -> str:
    """Return the text of a statement with a comment; as it is, if that cannot be made."""
    sql: str = args[1]
    try:
        return comment(unit, sql, args[-1], len(args) == WITH_PARAMETERS)
    except Exception as error:
        complain(StatementBegun, error)
        return sql


def want(unit: Unit, engine: Engine) -> None:
    """Tell that a unit is about to take a connection."""
    if unit.source.events.listeners:
        unit.source.events.tell(ConnectionWanted, unit, engine, is_full(engine))


def is_full(engine: Engine) -> bool:
    """Tell whether somebody has to give a connection back before another can be taken."""
    room, pool = capacity(engine), engine.pool
    return room is not None and isinstance(pool, QueuePool) and pool.checkedout() >= room
