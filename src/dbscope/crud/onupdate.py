"""What columns make by themselves in an upsert: `default`, `onupdate`, the version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Dialect, and_, case, literal
from sqlalchemy.orm import Mapper, Session
from sqlalchemy.types import Integer


class RowContext:
    """What a context-sensitive `onupdate` is given: SQLAlchemy's own is of the whole INSERT.

    Args:
        session: the statement's.
        mapper: the model's.
        parameters: what is set, by column.
        isinsert: whether the values are those of a new row.
    """

    isdelete = False

    def __init__(
        self,
        session: Session,
        mapper: Mapper[Any],
        parameters: dict[str, Any],
        *,
        isinsert: bool = False,
    ) -> None:
        self.isinsert, self.isupdate = isinsert, not isinsert
        self._session, self._mapper = session, mapper
        self.current_parameters = parameters
        self.current_column: Column[Any] | None = None

    def get_current_parameters(
        self,
        isolate_multiinsert_groups: bool = True,  # noqa: ARG002 - SQLAlchemy's own takes it
    ) -> dict[str, Any]:
        """Return the values of this row."""
        return self.current_parameters

    @property
    def connection(self) -> Connection:
        """The connection that the statement is sent by."""
        return self._session.connection(bind_arguments={"mapper": self._mapper})

    root_connection = connection

    @property
    def dialect(self) -> Dialect:
        """That of the database."""
        return self._session.get_bind(self._mapper).dialect

    @property
    def engine(self) -> Any:
        """The connection's."""
        return self.connection.engine

    @property
    def execution_options(self) -> Mapping[str, Any]:
        """The connection's."""
        return self.connection.get_execution_options()


def made_by_insert(
    session: Session, mapper: Mapper[Any], row: Mapping[str, Any]
) -> dict[Column[Any], Any]:
    """Return what the callables of the columns make for a new row that does not have them."""
    table: Any = mapper.local_table
    context = RowContext(session, mapper, dict(row), isinsert=True)
    made: dict[Column[Any], Any] = {}
    for column in table.c:
        if column.key not in row and column.default is not None and column.default.is_callable:
            made[column] = _value(column, column.default, context)
    return made


def made_by_update(
    session: Session,
    mapper: Mapper[Any],
    rows: Sequence[Mapping[str, Any]],
    changed: Sequence[Column[Any]],
    key: Sequence[Column[Any]],
    *,
    new: Any,
) -> dict[str, Any]:
    """Return what an UPDATE sets beside what is given, by the columns' keys.

    Args:
        session: the statement's.
        mapper: the model's.
        rows: the values of each row, by the columns' keys.
        changed: the columns that are given; their `onupdate` is not asked.
        key: the columns that are unique together.
        new: the columns as they would have been inserted.
    """
    table: Any = mapper.local_table
    names = {column.key for column in changed} | {column.key for column in key}
    asked = [each for each in table.c if each.onupdate is not None and each not in changed]
    contexts = [
        RowContext(session, mapper, {name: row[name] for name in row if name in names})
        for row in rows
    ]
    made: dict[str, Any] = {}
    for column in asked:
        values = [_value(column, column.onupdate, context) for context in contexts]
        made[column.key] = _of_each(column, rows, values, key, new)
    return {**made, **_next_version(mapper)}


def is_asked_by_row(mapper: Mapper[Any]) -> bool:
    """Tell whether each row has an `onupdate` of its own, which is parameters of its own."""
    table: Any = mapper.local_table
    return any(each.onupdate is not None and each.onupdate.is_callable for each in table.c)


def _value(column: Column[Any], default: Any, context: RowContext) -> Any:
    context.current_column = column
    if default.is_sequence:
        return default.next_value()
    value = default.arg(context) if default.is_callable else default.arg
    if default.is_callable:
        context.current_parameters[column.key] = value
    return value


def _of_each(
    column: Column[Any],
    rows: Sequence[Mapping[str, Any]],
    values: Sequence[Any],
    key: Sequence[Column[Any]],
    new: Any,
) -> Any:
    default: Any = column.onupdate
    if len(rows) == 1 or not default.is_callable:
        return values[0]
    whens = [
        (and_(*(new[each.key] == row[each.key] for each in key)), literal(value, column.type))
        for row, value in zip(rows, values, strict=True)
    ]
    return case(*whens)


def _next_version(mapper: Mapper[Any]) -> dict[str, Any]:
    version, generate = mapper.version_id_col, mapper.version_id_generator
    if version is None or not callable(generate):
        return {}
    counts = isinstance(version.type, Integer)
    return {str(version.key): version + 1 if counts else generate(None)}
