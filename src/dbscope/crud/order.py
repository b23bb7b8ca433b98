"""What a list is ordered by, always down to the primary key; and what comes after a row of it."""

from __future__ import annotations

import typing
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    ColumnExpressionArgument,
    and_,
    cast,
    false,
    literal,
    or_,
    type_coerce,
)
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators
from sqlalchemy.types import Double, Enum, Float, Integer, NullType, TypeDecorator, TypeEngine

from dbscope import ConfigurationError
from dbscope.backends.features import Features
from dbscope.crud.refusals import BadRequest
from dbscope.crud.refusing import refusal

SortKey = str | ColumnExpressionArgument[Any]
OrderBy = SortKey | Sequence[SortKey]
STANDARD = Features(name="")


@dataclass(frozen=True, slots=True)
class Key:
    """One expression that a list is ordered by. NULL comes last, in either direction."""

    expression: ColumnElement[Any]
    descending: bool = False
    features: Features = STANDARD

    @property
    def words(self) -> str:
        """What it is, for people and to compare with others."""
        if isinstance(self.expression, Column):
            return str(self.expression)  # which need not be compiled
        compiled = self.expression.compile()
        return f"{compiled} {compiled.params}" if compiled.params else str(compiled)

    @property
    def nullable(self) -> bool:
        """Tell whether it may be NULL; what is no column of a table may be."""
        return bool(getattr(self.expression, "nullable", True))

    @property
    def raw(self) -> ColumnElement[Any]:
        """The same, as the driver gives and takes it.

        Not every type of SQLAlchemy gives back what is stored: on SQLite a time that the database
        has made lacks the microseconds that are compared with, and rows would come twice or never.
        An ENUM may be sorted by the position of its names, and compared as text.
        """
        if self.features.enums_by_position and is_native_enum(self.expression.type):
            return cast(self.expression, Integer())
        return type_coerce(self.expression, NullType())

    @property
    def exact(self) -> ColumnElement[Any]:
        """The same, for a cursor: single-precision numbers are 0.1 only when they are shown."""
        if isinstance(self.expression.type, Float):
            return cast(self.expression, Double())
        return self.raw

    @property
    def clauses(self) -> list[ColumnElement[Any]]:
        """Return what it is in ORDER BY."""
        clause = self.expression.desc() if self.descending else self.expression.asc()
        if not self.nullable:
            return [clause]
        if self.features.nulls_last:
            return [clause.nulls_last()]
        return [self.expression.is_(None), clause]

    def beyond(self, value: Any, *, or_equal: bool = False) -> ColumnElement[bool]:
        """Return the condition of coming later than a row with this value."""
        if value is None:
            return self.expression.is_(None) if or_equal else false()
        compare = operators.lt if self.descending else operators.gt
        if or_equal:
            compare = operators.le if self.descending else operators.ge
        later: ColumnElement[bool] = compare(self.raw, literal(value, NullType()))
        return or_(later, self.expression.is_(None)) if self.nullable else later

    def __str__(self) -> str:
        return f"{self.words} {'desc' if self.descending else 'asc'}"


def is_native_enum(kind: TypeEngine[Any]) -> bool:
    """Tell whether it is the database's own type that knows the names."""
    if isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    return isinstance(kind, Enum) and kind.native_enum


def keys_of(
    mapper: Mapper[Any], order_by: OrderBy, sortable: Collection[str], features: Features
) -> list[Key]:
    """Return what is ordered by, with the primary key as the tie-breaker at the end.

    Args:
        mapper: the model's.
        order_by: columns of it, `.desc()` or not; or names as a client gives them, "-price,name".
        sortable: the names that a client may give.
        features: of the database.

    Raises:
        BadRequest: a name is not one of those.
        TypeError: it is more than a column with a direction.
    """
    keys: list[Key] = []
    for one in _listed(order_by):
        keys += _named(mapper, one, sortable) if isinstance(one, str) else [_key(one)]
    keys += [_attribute(mapper, column) for column in mapper.primary_key]
    first: dict[str, Key] = {}
    for key in keys:
        first.setdefault(key.words, replace(key, features=features))
    return list(first.values())


def after(keys: Sequence[Key], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition of coming after the row that has these values.

    Its first part, `a >= x`, says nothing new, and lets the database begin at that place of an
    index (https://use-the-index-luke.com/sql/partial-results/fetch-next-page).
    """
    key, value = keys[0], values[0]
    if len(keys) == 1:
        return key.beyond(value)
    rest = after(keys[1:], values[1:])
    return and_(key.beyond(value, or_equal=True), or_(key.beyond(value), rest))


def _listed(order_by: OrderBy) -> Sequence[SortKey]:
    if isinstance(order_by, (list, tuple)):
        return typing.cast("Sequence[SortKey]", order_by)
    return [typing.cast("SortKey", order_by)]


def _named(mapper: Mapper[Any], names: str, sortable: Collection[str]) -> list[Key]:
    keys: list[Key] = []
    seen: set[str] = set()
    for name in filter(None, names.split(",", len(sortable))):
        plain = name.removeprefix("-")
        if plain not in sortable or plain in seen:
            known = ", ".join(sortable) or "nothing"
            raise refusal(BadRequest, f"This list cannot be sorted by that; choose from: {known}.")
        if plain not in mapper.column_attrs:
            raise ConfigurationError(f"`sortable` names {plain}, and {mapper} has no such column.")
        seen.add(plain)
        keys.append(_key(getattr(mapper.class_, plain), descending=plain != name))
    return keys


def _key(given: Any, *, descending: bool = False) -> Key:
    if hasattr(given, "__clause_element__"):
        given = given.__clause_element__()
    modifier = getattr(given, "modifier", None)
    if modifier in (operators.asc_op, operators.desc_op):
        return Key(given.element, modifier is operators.desc_op)
    is_column = isinstance(given, ColumnElement)
    if modifier is not None or not is_column:
        raise TypeError(f"A list is ordered by columns, `.desc()` or not; not by {given}.")
    return Key(given, descending)


def _attribute(mapper: Mapper[Any], column: Any) -> Key:
    return _key(getattr(mapper.class_, mapper.get_property_by_column(column).key))
