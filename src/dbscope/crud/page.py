"""Pages of a list, by offset or by keyset."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnExpressionArgument, Select, inspect, select
from sqlalchemy.exc import DataError, DBAPIError, ProgrammingError, StatementError
from sqlalchemy.orm import Session
from sqlalchemy.orm.interfaces import ORMOption

from dbscope.backends.registry import features_of
from dbscope.crud import cursor
from dbscope.crud.operations import count
from dbscope.crud.order import OrderBy, after, keys_of
from dbscope.crud.refusals import BadCursor, BadRequest
from dbscope.crud.refusing import refusal
from dbscope.crud.sources import refuse_strangers

T = TypeVar("T")

MAX_OFFSET = 2**63 - 1  # what a database can count to
# It does not repeat what the client has sent.
NO_CURSOR = "This cursor is not one of this list: take it from the page before, as it is."


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list.

    Args:
        items: in order.
        next: the cursor of the page after it, for `after=`; None if this is the last.
        total: how many there are on all pages, if that was asked for.
    """

    items: list[T]
    next: str | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which page is wanted."""

    filters: Sequence[ColumnExpressionArgument[bool]]
    order_by: OrderBy
    limit: int
    offset: int
    after: str | None
    total: bool
    options: Sequence[ORMOption]


def list_page(
    session: Session, model: type[T], wanted: Wanted, *, sortable: Collection[str], max_limit: int
) -> Page[T]:
    """Return a page; see `AsyncCRUD.list`."""
    check(wanted, max_limit)
    features = features_of(session.get_bind(model).dialect)
    keys = keys_of(inspect(model), wanted.order_by, sortable, features)
    order = f"{model.__name__}: " + ", ".join(map(str, keys))
    statement = select(model, *(key.exact.label(None) for key in keys)).where(*wanted.filters)
    if wanted.after is not None:
        statement = statement.where(after(keys, read(wanted.after, order, len(keys))))
    if wanted.offset:
        statement = statement.offset(wanted.offset)
    statement = statement.order_by(*(clause for key in keys for clause in key.clauses))
    statement = statement.limit(wanted.limit + 1).options(*wanted.options)
    if wanted.filters or wanted.options or not isinstance(wanted.order_by, str):
        refuse_strangers(session, model, statement)
    rows = fetch(session, statement, trusted=wanted.after is None)
    shown = rows[: wanted.limit]
    return Page(
        [row[0] for row in shown],
        cursor.encode(order, shown[-1][1:]) if len(rows) > len(shown) else None,
        count(session, model, wanted.filters) if wanted.total else None,
    )


def check(wanted: Wanted, max_limit: int) -> None:
    """Raise BadRequest if there can be no such page."""
    if not 1 <= wanted.limit <= max_limit:
        raise refusal(BadRequest, f"The limit of a page must be from 1 to {max_limit}.")
    if not 0 <= wanted.offset <= MAX_OFFSET:
        raise refusal(BadRequest, f"The offset of a page must be from 0 to {MAX_OFFSET}.")
    if wanted.offset and wanted.after is not None:
        raise refusal(BadRequest, "A page begins at an offset or after a cursor, not both.")


def read(text: str, order: str, length: int) -> list[Any]:
    """Return the values in a cursor.

    Raises:
        BadCursor: it is none of this list.
    """
    try:
        return cursor.decode(text, order, length)
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise refusal(BadCursor, NO_CURSOR) from error


def fetch(session: Session, statement: Select[Any], *, trusted: bool) -> list[Any]:
    """Return the rows.

    Raises:
        BadCursor: the database refuses what it takes without the values of a cursor.
    """
    try:
        return list(session.execute(statement).unique().all())
    except (StatementError, ValueError, OverflowError) as error:
        if trusted or not is_refusal(error):
            raise
        raise refusal(BadCursor, NO_CURSOR) from error


def is_refusal(error: Exception) -> bool:
    """Tell whether values are to blame: SQLSTATE 22 and 42, or the driver cannot send them."""
    if not isinstance(error, DBAPIError) or isinstance(error, (DataError, ProgrammingError)):
        return True
    return str(getattr(error.orig, "sqlstate", None) or "")[:2] in ("22", "42")
