"""Telling those who listen of what the engine does, where somebody does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import QueuePool

from dbscope.engine.pool import capacity
from dbscope.watch.dispatch import call, complain
from dbscope.watch.events import ConnectionWanted, StatementBegun, StatementEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from dbscope.unit.unit import Unit
    from dbscope.watch.dispatch import Listener, Listeners

WITH_PARAMETERS = 4  # arguments of `do_execute`: cursor, statement, parameters, context


def execute(
    listeners: Listeners, unit: Unit, send: Callable[..., None], *args: Any, **kwargs: Any
) -> None:
    """Send a statement, and tell of its begin and its end.

    Args:
        listeners: who is told.
        unit: whose statement it is.
        send: the dialect's own way to send it.
        *args: of that: the cursor, the statement, its parameters if any, and the context.
        **kwargs: the same.
    """
    if listeners.comment is not None:  # behind the listeners, to whom it is the same statement
        send = partial(execute_commented, unit, listeners.comment, send)
    if listeners.others:
        send = partial(execute_heard, unit, listeners.others, send)
    direct = listeners.direct
    if direct is None:
        send(*args, **kwargs)
        return
    context = args[-1]
    parameters = args[2] if len(args) == WITH_PARAMETERS else None
    noted = direct.begin(unit, args[1], parameters, context)
    try:
        send(*args, **kwargs)
    except BaseException as error:
        direct.end(noted, context, error)
        raise
    direct.end(noted, context, None)


def execute_heard(
    unit: Unit,
    listeners: Sequence[Listener],
    send: Callable[..., None],
    *args: Any,
    **kwargs: Any,
) -> None:
    """Send a statement, and make events of its begin and its end.

    Args:
        unit: see `execute`.
        listeners: who is told.
        send: see `execute`.
        *args: the same.
        **kwargs: the same.
    """
    context, failure = args[-1], None
    parameters = args[2] if len(args) == WITH_PARAMETERS else None
    call(StatementBegun(unit, args[1], parameters, context), listeners)
    try:
        send(*args, **kwargs)
    except BaseException as error:
        failure = error
        raise
    finally:
        call(StatementEnded(unit, context, failure), listeners)


def execute_commented(
    unit: Unit,
    comment: Callable[..., str],
    send: Callable[..., None],
    *args: Any,
    **kwargs: Any,
) -> None:
    """Send a statement with a comment.

    Args:
        unit: see `execute`.
        comment: makes its text.
        send: see `execute`.
        *args: the same.
        **kwargs: the same.
    """
    send(args[0], commented(comment, unit, args), *args[2:], **kwargs)


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
