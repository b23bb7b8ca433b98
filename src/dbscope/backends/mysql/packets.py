"""Statements that are larger than MySQL or MariaDB takes: the fault of who sends, not an outage.

The server closes the connection, often while the driver is still sending, and the driver says that
the server is gone (MariaDB, "max_allowed_packet").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from dbscope.backends import errors

if TYPE_CHECKING:
    from sqlalchemy import Dialect
    from sqlalchemy.engine import ExceptionContext

LIMIT = "dbscope_packet_limit"  # an attribute of the dialect, bytes
TOO_LARGE = 1153
SETS = (Mapping, tuple, list)  # of parameters


def ask(dialect: Dialect, connection: Any) -> None:
    """Ask a new connection what the server takes: once for the life of an engine."""
    if hasattr(dialect, LIMIT):
        return
    cursor = connection.cursor()
    cursor.execute("SELECT @@max_allowed_packet")
    setattr(dialect, LIMIT, int(cursor.fetchone()[0]))
    cursor.close()


def is_too_large(context: ExceptionContext) -> bool:
    """Tell whether a statement has failed because the server does not take so much at once."""
    limit = getattr(context.dialect, LIMIT, None)
    if limit is None or context.statement is None:
        return False
    is_said = errors.native_code(context.original_exception) == TOO_LARGE
    return is_said or size(context) > limit


def give_up(context: ExceptionContext) -> None:
    """Discard the connection, and no other one, and say what is the matter."""
    context.is_disconnect = True
    context.invalidate_pool_on_disconnect = False
    if context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.add_note(
            f"The server takes {getattr(context.dialect, LIMIT)} bytes at once "
            "(max_allowed_packet), and what was sent is larger. Nothing of it was done."
        )


def size(context: ExceptionContext) -> int:
    """Return at least how many bytes a statement is."""
    return len(context.statement or "") + max(map(_bytes, _sets(context.parameters)), default=0)


def _sets(parameters: Any) -> Iterator[Any]:
    if isinstance(parameters, Mapping):
        yield cast("Mapping[str, Any]", parameters).values()
    elif isinstance(parameters, tuple | list):
        given = cast("list[Any]", parameters)
        several: list[Any] = [each for each in given if isinstance(each, SETS)]
        yield from (next(_sets(each), ()) for each in several) if several else [given]


def _bytes(values: Any) -> int:
    return sum(len(value) for value in values if isinstance(value, str | bytes | bytearray))
