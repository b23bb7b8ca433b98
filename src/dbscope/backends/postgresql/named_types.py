"""Enum types and domains of PostgreSQL, which neither a column nor its table takes with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import renderers
from alembic.operations import ops
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from dbscope.backends.stored_types import Existing, stored

DIALECT: Dialect = sa.make_url("postgresql://").get_dialect()()
Named = postgresql.ENUM | postgresql.DOMAIN


class OnPostgreSQL(ops.MigrateOperation):
    """A statement that other databases do not know."""

    def __init__(self, sql: str) -> None:
        self.sql = sql


@renderers.dispatch_for(OnPostgreSQL)
def _render(_: object, operation: OnPostgreSQL) -> str:
    return (
        "if op.get_context().dialect.name == 'postgresql':\n"
        f"    op.execute({operation.sql!r})"  # not as a bound statement: also for `--sql`
    )


def complete(upgrade: ops.UpgradeOps, downgrade: ops.DowngradeOps, models: list[Any]) -> None:
    """Make types before the columns that are added with them, and drop them with their last one.

    Alembic makes a type only together with a table, whether it is there or not, and drops none.

    Args:
        upgrade: what is about to be written.
        downgrade: the same.
        models: the metadata of the application.
    """
    tables = [table for metadata in models for table in metadata.tables.values()]
    columns = [column for table in tables for column in table.columns]
    added = {(table, each.name) for table, each, _ in _added(upgrade.ops)}
    rest = [each for each in columns if (each.table.name, each.name) not in added]
    _complete(upgrade.ops, downgrade.ops, {name for name, _ in _named(rest)})
    kept = {name for name, _ in _named(columns)}
    _complete(downgrade.ops, upgrade.ops, kept, reflected=True)


def _complete(here: list[Any], back: list[Any], kept: set[str], *, reflected: bool = False) -> None:
    """Complete one direction: what it makes the other one drops."""
    made: dict[str, Named] = {}
    first: list[Any] = []
    for _, column, is_of_table in _added(here):
        for name, type_ in _named([column], reflected=reflected):
            if name in kept and is_of_table and isinstance(type_, postgresql.ENUM):
                column.type = Existing(column.type, _existing(type_), DIALECT.name)
            elif name not in kept | set(made):
                made[name] = type_
                if not is_of_table or not type_.create_type:
                    first.append(OnPostgreSQL(_sql(_create(type_))))
    here[:0] = first
    back.extend(OnPostgreSQL(_sql(_drop(each))) for each in made.values())


def _existing(enum: Any) -> postgresql.ENUM:
    return postgresql.ENUM(*enum.enums, name=enum.name, schema=enum.schema, create_type=False)


def _added(operations: Iterable[Any]) -> Iterator[tuple[str, sa.Column[Any], bool]]:
    """Give the columns that are added, with their tables, and whether as part of a new table."""
    for each in operations:
        if isinstance(each, ops.CreateTableOp):
            for column in each.columns:
                if isinstance(column, sa.Column):
                    yield each.table_name, column, True
        elif isinstance(each, ops.AddColumnOp):
            yield each.table_name, each.column, False
        elif isinstance(each, ops.OpContainer):
            yield from _added(each.ops)


def _named(
    columns: Iterable[sa.Column[Any]], *, reflected: bool = False
) -> Iterator[tuple[str, Named]]:
    """Give the types that come with columns, by name; a reflected domain says that it does not."""
    for column in columns:
        type_: TypeEngine[Any] = stored(column.type, DIALECT)
        while (item := getattr(type_, "item_type", None)) is not None:
            type_ = item
        if not isinstance(type_, sa.Enum | postgresql.DOMAIN) or isinstance(type_, mysql.ENUM):
            continue
        made = _on_postgresql(type_)
        if _is_named(made) and (made.create_type or reflected):
            yield f"{made.schema}.{made.name}", made


def _on_postgresql(type_: Any) -> Any:
    return type_.dialect_impl(DIALECT)


def _is_named(type_: object) -> bool:
    return isinstance(type_, Named)


def _create(type_: Named) -> Any:
    if isinstance(type_, postgresql.DOMAIN):
        return postgresql.CreateDomainType(type_)
    return postgresql.CreateEnumType(type_)


def _drop(type_: Named) -> Any:
    if isinstance(type_, postgresql.DOMAIN):
        return postgresql.DropDomainType(type_)
    return postgresql.DropEnumType(type_)


def _sql(statement: Any) -> str:
    return " ".join(str(statement.compile(dialect=DIALECT)).split())
