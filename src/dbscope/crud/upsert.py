"""INSERT, or UPDATE of the row that is there: one statement, whoever else does the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Column, Table, UniqueConstraint, inspect, select
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.types import Integer

from dbscope import ConfigurationError
from dbscope.crud.fields import fields

T = TypeVar("T")

FRESH = {"populate_existing": True}


@dataclass(frozen=True, slots=True)
class Row:
    """What is to be stored.

    Args:
        values: of all fields, by attribute.
        on: the attributes that are unique together.
        changed: the attributes that an UPDATE sets.
    """

    mapper: Mapper[Any]
    values: dict[str, Any]
    on: Sequence[str]
    changed: Sequence[str]

    @property
    def key(self) -> list[Column[Any]]:
        """The columns that are unique together."""
        return [self.mapper.c[name] for name in self.on]

    def changes(self, new: Any) -> dict[str, Any]:
        """Return what an UPDATE sets, by column; nothing of it is done by the ORM.

        Args:
            new: the columns as they would have been inserted.
        """
        if not self.changed:  # an UPDATE that changes nothing still locks and returns the row
            return {self.key[0].key: self.key[0]}
        table: Any = self.mapper.local_table
        made: dict[str, Any] = {
            column.key: _on_update(column) for column in table.c if column.onupdate is not None
        }
        given = [self.mapper.c[name].key for name in self.changed]
        return {**made, **{key: new[key] for key in given}, **_next_version(self.mapper)}


def upsert(
    session: Session, model: type[T], data: object, on: Sequence[str], more: Mapping[str, Any]
) -> T:
    """Store a new row, or change the one that is there; see `AsyncCRUD.upsert`."""
    mapper = inspect(model)
    row = row_of(mapper, [on] if isinstance(on, str) else list(on), data, more)
    session.flush()
    stored: T = _store(session, row, session.get_bind(mapper).dialect.name)
    return stored


def _store(session: Session, row: Row, dialect: str) -> Any:
    model = row.mapper.class_
    # Each is imported where it is in use already: all of them are a quarter of a second.
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return _on_conflict(session, row, postgresql.insert(model))
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return _on_conflict(session, row, sqlite.insert(model))
    if dialect in ("mysql", "mariadb"):
        from sqlalchemy.dialects import mysql

        return _on_duplicate_key(session, row, mysql.insert(model))
    raise ConfigurationError(f"There is no upsert for {dialect}.")


def row_of(mapper: Mapper[Any], on: list[str], data: object, more: Mapping[str, Any]) -> Row:
    """Return what is to be stored.

    Raises:
        TypeError: a name is not one of a column, or a value of the key is missing.
        ConfigurationError: the model inherits.
    """
    if mapper.polymorphic_on is not None or mapper.inherits is not None:
        raise ConfigurationError(f"{mapper} inherits, and upsert does not know how.")
    values = fields(mapper, data, more)
    for name in (*values, *on):
        if name not in mapper.c:
            raise TypeError(f"upsert stores columns, and {mapper.class_.__name__}.{name} is none.")
    if not on or any(values.get(name) is None for name in on):
        raise TypeError(f"upsert needs the values that are unique: {', '.join(on) or 'on=(...)'}.")
    primary = _names(mapper, mapper.primary_key)
    for name in primary:
        if values.get(name) is None:
            values.pop(name, None)
    kept = {*on, *primary}
    version, generate = mapper.version_id_col, mapper.version_id_generator
    if version is not None and callable(generate):
        (name,) = _names(mapper, [version])
        values[name] = generate(None)
        kept.add(name)
    given = fields(mapper, data, more, only_set=True)
    return Row(mapper, values, on, [name for name in given if name not in kept])


def _on_conflict(session: Session, row: Row, insert: Any) -> Any:
    changes = row.changes(insert.excluded)
    insert = insert.values(row.values).on_conflict_do_update(index_elements=row.key, set_=changes)
    insert = insert.returning(row.mapper.class_)
    return session.scalars(insert, execution_options=FRESH).one()


def _on_duplicate_key(session: Session, row: Row, insert: Any) -> Any:
    """Do the same where any unique key counts as the one, and nothing is returned."""
    _must_be_the_only_key(row)
    changes = row.changes(insert.inserted)
    session.execute(insert.values(row.values).on_duplicate_key_update(changes))
    # Locked, because a snapshot that is older than the row would not show it.
    same = {name: row.values[name] for name in row.on}
    query = select(row.mapper.class_).filter_by(**same).with_for_update()
    return session.scalars(query, execution_options=FRESH).one()


def _must_be_the_only_key(row: Row) -> None:
    table: Any = row.mapper.local_table
    keys = _unique_keys(table)
    primary = row.mapper.primary_key
    if not row.values.keys() & set(_names(row.mapper, primary)):  # a new one, for each new row
        keys.remove(set(primary))
    if keys != [set(row.key)]:
        told = ", ".join(row.on)
        raise ConfigurationError(
            f"For upsert on={told}, MySQL needs {table.name} to have a unique key of these columns"
            " and no other: it takes a row that is the same by any of them for the one."
        )


def _unique_keys(table: Table) -> list[set[Any]]:
    keys: list[set[Any]] = [set(table.primary_key.columns)]
    keys += [set(each.columns) for each in table.constraints if isinstance(each, UniqueConstraint)]
    return keys + [set(index.columns) for index in table.indexes if index.unique]


def _names(mapper: Mapper[Any], columns: Sequence[Any]) -> list[str]:
    return [mapper.get_property_by_column(column).key for column in columns]


def _next_version(mapper: Mapper[Any]) -> dict[str, Any]:
    version, generate = mapper.version_id_col, mapper.version_id_generator
    if version is None or not callable(generate):
        return {}
    counts = isinstance(version.type, Integer)
    return {str(version.key): version + 1 if counts else generate(None)}


def _on_update(column: Column[Any]) -> Any:
    default: Any = column.onupdate
    return default.arg(None) if default.is_callable else default.arg
