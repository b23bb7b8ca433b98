"""The operations on a plain session, but for pages and upsert. Nothing here commits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnExpressionArgument, func, inspect, literal, select, tuple_
from sqlalchemy.orm import InstanceState, Mapper, Session

from dbscope.crud.nested import build, change
from dbscope.crud.refusals import NotFound
from dbscope.crud.refusing import refusal
from dbscope.crud.sources import refuse_strangers

T = TypeVar("T")

Filters = Sequence[ColumnExpressionArgument[bool]]
BATCH = 500  # keys that are looked for by one statement
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
    with session.no_autoflush:
        row: T = build(session, inspect(model), data, more)
    session.add(row)
    flush(session, row)
    return row


def create_many(
    session: Session, model: type[T], data: Iterable[object], more: Mapping[str, Any]
) -> list[T]:
    """Store new rows: those with the same fields by one statement for each batch."""
    mapper = inspect(model)
    with session.no_autoflush:
        rows: list[T] = [build(session, mapper, each, more) for each in data]
    session.flush()
    alike: dict[frozenset[str], list[T]] = {}
    for row in rows:
        given = frozenset(name for name, value in vars(row).items() if value is not None)
        alike.setdefault(given, []).append(row)
    for group in alike.values():
        session.add_all(group)
        session.flush()
    reload(session, mapper, rows)
    return rows


def update(session: Session, model: type[T], row: T, data: object, more: Mapping[str, Any]) -> T:
    """Change the fields that were set, at once."""
    session.add(row)
    with session.no_autoflush:
        change(session, inspect(model), row, data, more)
    flush(session, row)
    return row


def delete(session: Session, row: object) -> None:
    """Delete a row, at once."""
    session.delete(row)
    session.flush()


def exists(session: Session, model: type[Any], filters: Filters) -> bool:
    """Tell whether there is such a row."""
    some = select(literal(1)).select_from(model).where(*filters)
    if filters:
        refuse_strangers(session, model, some)
    return bool(session.scalar(select(some.exists())))


def count(session: Session, model: type[Any], filters: Filters) -> int:
    """Return how many there are."""
    statement = select(func.count()).select_from(model).where(*filters)
    if filters:
        refuse_strangers(session, model, statement)
    return session.scalars(statement).one()


def flush(session: Session, row: Any) -> None:
    """Flush, and read what the database has made itself: async code cannot read it later."""
    session.flush()
    state: InstanceState[Any] = inspect(row)
    if made := state.expired_attributes & set(state.mapper.column_attrs.keys()):
        session.refresh(row, made)


def reload(session: Session, mapper: Mapper[Any], rows: Sequence[Any]) -> None:
    """Read what the database has made itself, of many rows at once."""
    names = set(mapper.column_attrs.keys())
    stale = [row for row in rows if inspect(row).expired_attributes & names]
    primary = list(mapper.primary_key)
    for first in range(0, len(stale), BATCH):
        keys = [inspect(row).identity for row in stale[first : first + BATCH]]
        query = select(mapper.class_).where(tuple_(*primary).in_(keys))
        session.scalars(query, execution_options={"populate_existing": True}).all()


def in_words(name: str) -> str:
    """Return the name of a class in words: "order line"."""
    return WORD.sub(" ", name).lower()
