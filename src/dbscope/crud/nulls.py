"""NULL where the table has NOT NULL: the client is told the field, and nothing is sent."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import Mapper, RelationshipProperty, SynonymProperty
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.types import TypeDecorator

from dbscope.crud.refusals import NullRefused
from dbscope.crud.refusing import refusal


def refuse_nulls(
    mapper: Mapper[Any], values: Mapping[str, Any], *, is_new: bool, path: str = ""
) -> None:
    """Raise NullRefused if a value is None and the database would not take it.

    Args:
        mapper: the model's.
        values: by attribute, as they are going to be stored.
        is_new: a new row gets what the column has by default in the place of None.
        path: of the fields, before the names.
    """
    given = {name for name, value in values.items() if value is not None}
    for name in values.keys() - given:
        columns = columns_of(mapper, name)
        if any(takes_no_null(each, is_new=is_new) for each in without(columns, mapper, given)):
            raise refusal(NullRefused, f"{path}{name} must not be null.")


@contextmanager
def set_by_validators(
    mapper: Mapper[Any], values: Mapping[str, Any], *, is_new: bool, path: str = ""
) -> Generator[None]:
    """Set values; a validator that fails because it knows no None is NullRefused as well.

    Args:
        mapper: the model's.
        values: by attribute, as they are given to the validators.
        is_new: see `refuse_nulls`.
        path: of the fields, before the names.
    """
    try:
        yield
    except (AttributeError, TypeError):
        validated = {name: values[name] for name in values.keys() & mapper.validators.keys()}
        refuse_nulls(mapper, validated, is_new=is_new, path=path)
        raise


def columns_of(mapper: Mapper[Any], name: str) -> list[Column[Any]]:
    """Return the columns that are NULL if this attribute is None."""
    prop: Any = mapper.attrs.get(name)
    while isinstance(prop, SynonymProperty):
        prop = mapper.attrs.get(prop.name)
    if isinstance(prop, RelationshipProperty):
        found: Any = prop.local_columns if prop.direction is MANYTOONE else ()
    else:  # a composite has columns too
        found = getattr(prop, "columns", ())
    return [each for each in found if isinstance(each, Column)]


def without(
    columns: Sequence[Column[Any]], mapper: Mapper[Any], given: Collection[str]
) -> list[Column[Any]]:
    """Return the columns that no other attribute gives a value to."""
    filled = {column for name in given for column in columns_of(mapper, name)}
    return [column for column in columns if column not in filled]


def takes_no_null(column: Column[Any], *, is_new: bool) -> bool:
    """Tell whether None comes to the database as NULL, and is refused there."""
    if column.nullable or column.type.should_evaluate_none or writes_none(column):
        return False
    return not (is_new and is_made(column))


def is_made(column: Column[Any]) -> bool:
    """Tell whether a new row gets a value that nobody has given."""
    if column.default is not None or column.server_default is not None:
        return True
    table: Any = column.table
    return column is table.autoincrement_column


def writes_none(column: Column[Any]) -> bool:
    """Tell whether the column's type has something else to store for None."""
    kind: Any = column.type
    if not is_decorated(kind) or "process_bind_param" not in overridden(kind.__class__):
        return False
    try:
        return kind.process_bind_param(None, None) is not None
    except (AttributeError, TypeError, ValueError):
        return False


def is_decorated(kind: Any) -> bool:
    """Tell whether it is a TypeDecorator."""
    return isinstance(kind, TypeDecorator)


def overridden(kind: type[Any]) -> set[str]:
    """Return the names that a class of types has by classes of the program."""
    ours = (each for each in kind.__mro__ if not each.__module__.startswith("sqlalchemy."))
    return {name for each in ours for name in vars(each)} - set(vars(object))
