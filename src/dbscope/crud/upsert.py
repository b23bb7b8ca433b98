"""INSERT, or UPDATE of the row that is there: one statement, whoever else does the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, inspect, select, tuple_
from sqlalchemy.orm import Mapper, Session

from dbscope import ConfigurationError
from dbscope.backends import registry
from dbscope.crud.fields import fields
from dbscope.crud.nulls import is_made, refuse_nulls, set_by_validators, takes_no_null
from dbscope.crud.onupdate import is_asked_by_row, made_by_insert, made_by_update
from dbscope.crud.operations import reload
from dbscope.crud.sources import foreign, refuse_foreign_values

T = TypeVar("T")

FRESH = {"populate_existing": True}
MAX_PARAMETERS = 32_000  # of a statement: SQLite takes 32766, PostgreSQL's drivers as many or more
MAX_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Target:
    """Which row is the one.

    Args:
        mapper: the model's.
        on: the attributes that are unique together.
        where: the condition of the unique index, if it is partial.
    """

    mapper: Mapper[Any]
    on: Sequence[str]
    where: ColumnElement[bool] | None = None

    @property
    def key(self) -> list[Column[Any]]:
        """The columns that are unique together."""
        return [self.mapper.c[name] for name in self.on]


@dataclass(frozen=True, slots=True)
class Row:
    """What is to be stored.

    Args:
        values: of all fields, by attribute.
        changed: the attributes that an UPDATE sets.
    """

    values: dict[str, Any]
    changed: tuple[str, ...]

    @property
    def shape(self) -> tuple[Any, ...]:
        """What rows of one statement have in common."""
        return (frozenset(self.values), self.changed)


def upsert(
    session: Session,
    model: type[T],
    data: object,
    on: Sequence[str],
    more: Mapping[str, Any],
    *,
    where: Any,
) -> T:
    """Store a new row, or change the one that is there; see `AsyncCRUD.upsert`."""
    return upsert_many(session, model, [data], on, more, where=where)[0]


def upsert_many(
    session: Session,
    model: type[T],
    data: Iterable[object],
    on: Sequence[str],
    more: Mapping[str, Any],
    *,
    where: Any,
) -> list[T]:
    """Store new rows, or change those that are there; see `AsyncCRUD.upsert_many`."""
    mapper = inspect(model)
    target = target_of(mapper, [on] if isinstance(on, str) else list(on), where)
    rows = [row_of(target, each, more) for each in data]
    session.flush()
    stored: list[Any] = [None] * len(rows)
    for positions in batches(target, rows):
        found = _store(session, target, [rows[position] for position in positions])
        for position, row in zip(positions, found, strict=True):
            stored[position] = row
    return stored


def batches(target: Target, rows: Sequence[Row]) -> list[list[int]]:
    """Return the positions of the rows that go together: alike, and none twice.

    A row that comes twice is stored twice, in its order, as if there were no batches.
    """
    size = _rows_at_once(target)
    turns: dict[Any, int] = {}
    groups: dict[Any, list[int]] = {}
    for position, row in enumerate(rows):
        key = tuple(str(row.values[name]).casefold() for name in target.on)
        turns[key] = turns.get(key, -1) + 1
        groups.setdefault((turns[key], row.shape), []).append(position)
    ordered = sorted(groups.items(), key=lambda item: item[0][0])
    return [
        positions[first : first + size]
        for _, positions in ordered
        for first in range(0, len(positions), size)
    ]


def _rows_at_once(target: Target) -> int:
    table: Any = target.mapper.local_table
    each = len(table.c)
    if is_asked_by_row(target.mapper):
        each += (len(target.on) + 1) * len(table.c)
    return max(1, min(MAX_ROWS, MAX_PARAMETERS // each))


def target_of(mapper: Mapper[Any], on: list[str], where: Any) -> Target:
    """Return which row is the one.

    Raises:
        TypeError: a name is not one of a column, or the condition has another table's.
        ConfigurationError: the model inherits.
    """
    if mapper.polymorphic_on is not None or mapper.inherits is not None:
        raise ConfigurationError(f"upsert does not support inheritance, as {mapper} has it.")
    for name in on:
        _must_be_a_column(mapper, name)
    if not on:
        raise TypeError("upsert needs the values that are unique: on=(...).")
    if strangers := foreign(mapper, where):
        names = ", ".join(strangers)
        raise TypeError(
            f"where= is the condition of an index, and must not have columns of {names}."
        )
    return Target(mapper, on, where)


def _must_be_a_column(mapper: Mapper[Any], name: str) -> None:
    if name not in mapper.c:
        raise TypeError(f"upsert stores columns; {mapper.class_.__name__}.{name} is not one.")


def row_of(target: Target, data: object, more: Mapping[str, Any]) -> Row:
    """Return what is to be stored.

    Raises:
        TypeError: a name is not one of a column, or a value of the key is missing.
        NullRefused: a value is None, which the column does not take.
    """
    mapper, on = target.mapper, target.on
    given = fields(mapper, data, more)
    for name in given:
        _must_be_a_column(mapper, name)
    set_fields = fields(mapper, data, more, only_set=True)
    values = validated(mapper, given)
    if any(values.get(name) is None for name in on):
        raise TypeError(f"upsert needs the values that are unique: {', '.join(on)}.")
    refuse_foreign_values(mapper, values)
    kept = {*on, *_names(mapper, mapper.primary_key)}
    changed = [n for n in values if (n in set_fields or n not in given) and n not in kept]
    refuse_nulls(mapper, {name: values[name] for name in changed}, is_new=False)
    refuse_nulls(mapper, values, is_new=True)
    values = {n: value for n, value in values.items() if not _is_left_out(mapper, n, value)}
    version = mapper.version_id_col
    if version is not None and callable(mapper.version_id_generator):
        (name,) = _names(mapper, [version])
        values[name] = mapper.version_id_generator(None)
        changed = [each for each in changed if each != name]
    return Row(values, tuple(changed))


def _is_left_out(mapper: Mapper[Any], name: str, value: Any) -> bool:
    """Tell whether the column's own value comes in the place of None, as it does in `create`."""
    column = mapper.c[name]
    return value is None and is_made(column) and takes_no_null(column, is_new=False)


def validated(mapper: Mapper[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as the model's `@validates` makes them, on an object that nobody has."""
    row: Any = mapper.class_manager.new_instance()
    for name, value in values.items():
        with set_by_validators(mapper, {name: value}, is_new=True):
            setattr(row, name, value)
    return {name: row.__dict__[name] for name in mapper.c.keys() if name in row.__dict__}  # noqa: SIM118


def _store(session: Session, target: Target, rows: Sequence[Row]) -> Sequence[Any]:
    dialect = session.get_bind(target.mapper).dialect
    features = registry.features_of(dialect)
    if not features.upsert:
        raise ConfigurationError(
            f"There is no upsert for a database that is called {dialect.name!r}: look for the row "
            "with `with_for_update`, and make or change it, or use "
            f"{', '.join(registry.able_to('upsert'))}."
        )
    if len(rows) > 1:
        rows = [with_defaults(session, target, row) for row in rows]
    statement = registry.class_of(dialect.name).upsert(
        target.mapper.class_,
        _values(rows),
        key=target.key,
        where=target.where,
        given=_columns(target, rows[0].values),
        changes=lambda new: changes(session, target, rows, new),
    )
    execute = _returned if features.upsert_returns else _selected
    return _in_order(target, rows, execute(session, target, rows, statement))


def changes(session: Session, target: Target, rows: Sequence[Row], new: Any) -> dict[str, Any]:
    """Return what an UPDATE sets, by column; nothing of it is done by the ORM.

    Args:
        session: the statement's.
        target: which row is the one.
        rows: of one shape.
        new: the columns as they would have been inserted.
    """
    mapper, changed = target.mapper, [target.mapper.c[name] for name in rows[0].changed]
    if not changed:  # an UPDATE that changes nothing still locks and returns the row
        return {target.key[0].key: target.key[0]}
    values = [_by_column(target, row) for row in rows]
    made = made_by_update(session, mapper, values, changed, target.key, new=new)
    return {**made, **{column.key: new[column.key] for column in changed}}


def with_defaults(session: Session, target: Target, row: Row) -> Row:
    """Return the row with what its callables make: SQLAlchemy has no context for one of several."""
    mapper = target.mapper
    made = made_by_insert(session, mapper, _by_column(target, row))
    named = {mapper.get_property_by_column(column).key: value for column, value in made.items()}
    return Row({**row.values, **named}, row.changed)


def _values(rows: Sequence[Row]) -> Any:
    return rows[0].values if len(rows) == 1 else [row.values for row in rows]


def _by_column(target: Target, row: Row) -> dict[str, Any]:
    return {target.mapper.c[name].key: value for name, value in row.values.items()}


def _returned(
    session: Session,
    target: Target,
    rows: Sequence[Row],  # noqa: ARG001
    statement: Any,
) -> Sequence[Any]:
    """Execute a statement that returns the rows."""
    mapper = target.mapper
    found = session.scalars(statement.returning(mapper.class_), execution_options=FRESH).all()
    late = [each.key for each in mapper.column_attrs if _is_late(each.columns[0])]
    for row in found if late else ():
        session.expire(row, late)
    reload(session, mapper, found)
    return found


def _is_late(column: Any) -> bool:
    """Tell whether a trigger may set the column after RETURNING has read it."""
    return getattr(column, "server_onupdate", None) is not None


def _selected(
    session: Session, target: Target, rows: Sequence[Row], statement: Any
) -> Sequence[Any]:
    """Execute a statement that returns nothing, and select the rows."""
    session.execute(statement)
    # Locked, because a snapshot that is older than the row would not show it.
    keys = [tuple(row.values[name] for name in target.on) for row in rows]
    query = select(target.mapper.class_).where(tuple_(*target.key).in_(keys)).with_for_update()
    return session.scalars(query, execution_options=FRESH).all()


def _in_order(target: Target, rows: Sequence[Row], found: Sequence[Any]) -> Sequence[Any]:
    """Return what was found in the order of the rows; by position if keys are spelled anew."""
    if len(found) == 1:
        return found
    by_key = {tuple(getattr(each, name) for name in target.on): each for each in found}
    keys = [tuple(row.values[name] for name in target.on) for row in rows]
    return [by_key[key] for key in keys] if by_key.keys() >= set(keys) else found


def _columns(target: Target, names: Iterable[str]) -> frozenset[Column[Any]]:
    return frozenset(target.mapper.c[name] for name in names)


def _names(mapper: Mapper[Any], columns: Sequence[Any]) -> list[str]:
    return [mapper.get_property_by_column(column).key for column in columns]
