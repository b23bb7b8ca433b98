"""INSERT … ON DUPLICATE KEY UPDATE, which takes a row that is the same by any key for the one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, UniqueConstraint, inspect
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.orm import Mapper

from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy import Column, ColumnElement


def on_duplicate_key(
    model: type[Any],
    values: Any,
    *,
    key: Sequence[Column[Any]],
    where: ColumnElement[bool] | None,
    given: Collection[Column[Any]],
    changes: Callable[[Any], dict[str, Any]],
) -> Any:
    """Return the statement; see `Backend.upsert`.

    Raises:
        ConfigurationError: the key is partial, or not the only one by which a row may be the same.
    """
    if where is not None:
        raise ConfigurationError(
            "upsert(where=...) is the condition of a partial index, and MySQL has none; leave "
            "it out."
        )
    _must_be_the_only_key(model, key, given)
    statement = insert(model).values(values)
    return statement.on_duplicate_key_update(changes(statement.inserted))


def _must_be_the_only_key(
    model: type[Any], key: Sequence[Column[Any]], given: Collection[Column[Any]]
) -> None:
    mapper: Mapper[Any] = inspect(model)
    table: Any = mapper.local_table
    keys = _unique_keys(table)
    primary = set(mapper.primary_key)
    if not primary & set(given):  # a new one, for each new row
        keys.remove(primary)
    if keys != [set(key)]:
        names = ", ".join(mapper.get_property_by_column(column).key for column in key)
        raise ConfigurationError(
            f"For upsert on={names}, MySQL needs {table.name} to have a unique key of these columns"
            " and no other: it takes a row that is the same by any of them for the one."
        )


def _unique_keys(table: Table) -> list[set[Any]]:
    keys: list[set[Any]] = [set(table.primary_key.columns)]
    keys += [set(each.columns) for each in table.constraints if isinstance(each, UniqueConstraint)]
    return keys + [set(index.columns) for index in table.indexes if index.unique]
