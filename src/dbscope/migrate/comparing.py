"""Whether two types are the same: the database is asked, if their names differ."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import TypeEngine

from dbscope.backends.registry import migrating_of

NAME = "_dbscope_compared"


def compare_type(
    migration: MigrationContext,
    stored: sa.Column[Any],
    column: sa.Column[Any],
    stored_type: TypeEngine[Any],
    type_: TypeEngine[Any],
) -> bool:
    """Tell whether a column has another type than its model, for Alembic's `compare_type`.

    Databases rename types: a REAL of MariaDB is a DOUBLE, and SQLite keeps every name. So what
    Alembic finds to differ is made as a temporary table, and differs if that looks different.
    """
    impl: Any = migration.impl
    if not impl.compare_type(stored, column):
        return False
    connection = migration.connection
    assert connection is not None
    try:
        with _apart(connection):
            made = _made(connection, type_)
    except SQLAlchemyError:  # no such type, or no right to make a table: what Alembic has found
        return True
    return made.compile(connection.dialect) != stored_type.compile(connection.dialect)


def _apart(connection: sa.Connection) -> AbstractContextManager[Any]:
    """Leave the transaction as it was, if there is one."""
    level = connection.get_execution_options().get("isolation_level")
    return nullcontext() if level == "AUTOCOMMIT" else connection.begin_nested()


def _made(connection: sa.Connection, type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type as the database makes it."""
    copied: Any = type_
    if isinstance(type_, sa.Enum):  # it listens to the table that it is in
        copied = copied.copy()
    table = sa.Table(NAME, sa.MetaData(), sa.Column("c", copied), prefixes=["TEMPORARY"])
    connection.execute(CreateTable(table))
    try:
        (column,) = sa.inspect(connection).get_columns(NAME)
        return column["type"]
    finally:
        drop = migrating_of(connection.dialect).drop_temporary
        connection.exec_driver_sql(f"{drop} {NAME}")
