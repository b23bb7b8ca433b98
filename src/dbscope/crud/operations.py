"""The operations on a plain session, but for pages and upsert. Nothing here commits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnExpressionArgument, func, inspect, literal, select
from sqlalchemy.orm import InstanceState, Session

from dbscope.crud.fields import fields
from dbscope.crud.refusals import NotFound, refusal

T = TypeVar("T")

Filters = Sequence[ColumnExpressionArgument[bool]]
WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def get(session: Session, model: type[T], pk: Any, options: Mapping[str, Any]) -> T | None:
    """Return a row by its primary key, or None."""
    return session.get(model, pk, **options)


def get_or_404(session: Session, model: type[T], pk: Any, options: Mapping[str, Any]) -> T:
    """Return a row by its primary key, or raise NotFound."""
    row = get(session, model, pk, options)
    if row is None:
        raise refusal(NotFound, f"There is no such {in_words(model.__name__)}.")
    return row


def create(session: Session, model: type[T], data: object, more: Mapping[str, Any]) -> T:
    """Store a new row, at once."""
    row = model(**fields(inspect(model), data, more))
    session.add(row)
    flush(session, row)
    return row


def update(session: Session, model: type[T], row: T, data: object, more: Mapping[str, Any]) -> T:
    """Change the fields that were set, at once."""
    changes = fields(inspect(model), data, more, only_set=True)
    session.add(row)
    for name, value in changes.items():
        setattr(row, name, value)
    flush(session, row)
    return row


def delete(session: Session, row: object) -> None:
    """Delete a row, at once."""
    session.delete(row)
    session.flush()


def exists(session: Session, model: type[Any], filters: Filters) -> bool:
    """Tell whether there is such a row."""
    some = select(literal(1)).select_from(model).where(*filters)
    return bool(session.scalar(select(some.exists())))


def count(session: Session, model: type[Any], filters: Filters) -> int:
    """Return how many there are."""
    statement = select(func.count()).select_from(model).where(*filters)
    return session.scalars(statement).one()


def flush(session: Session, row: Any) -> None:
    """Flush, and read what the database has made itself: async code cannot read it later."""
    session.flush()
    state: InstanceState[Any] = inspect(row)
    if made := state.expired_attributes & set(state.mapper.column_attrs.keys()):
        session.refresh(row, made)


def in_words(name: str) -> str:
    """Return the name of a class in words: "order line"."""
    return WORD.sub(" ", name).lower()
