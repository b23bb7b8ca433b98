"""How a transaction begins: with which of SQLAlchemy's options, and with which BEGIN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from dbscope.backends.sqlite import recipe
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dbscope.engine.engines import Engines
    from dbscope.unit.unit import Unit

Options = Mapping[str, Any]
NOTHING: Options = {}
AUTOCOMMIT: Options = {"isolation_level": "AUTOCOMMIT"}


def options_of(unit: Unit, bind: Engine | Connection, engines: Engines) -> Options:
    """Return the options for the transaction of a unit, or for a statement that needs none.

    All of them are taken back with the connection; PostgreSQL's drivers need no round trip.

    Args:
        unit: who begins.
        bind: where; a connection is its owner's, and stays as it is.
        engines: those of the database; its reader cannot write, and need not be told.

    Raises:
        ConfigurationError: the block asks for what a connection of somebody else cannot be told.
    """
    if isinstance(bind, Connection):
        return _leave_alone(unit)
    if unit.is_readonly and bind is not engines.reader:
        return {**isolation_of(bind, unit), **readonly_of(bind)}
    if unit.is_alone:
        # On MySQL it takes two round trips there and back, to save the one of COMMIT.
        return AUTOCOMMIT if bind.dialect.name == "postgresql" else NOTHING
    return isolation_of(bind, unit)


def _leave_alone(unit: Unit) -> Options:
    if unit.blocks and unit.blocks[0].has_attributes:
        raise ConfigurationError(
            f"{unit.blocks[0]} asks for an isolation level or to be read-only, and its session is "
            "bound to a connection, for which only the owner of that connection can decide it."
        )
    return NOTHING


def isolation_of(engine: Engine, unit: Unit) -> Options:
    """Return the option for the isolation level that the block has asked for."""
    level = unit.blocks[0].isolation if unit.blocks else None
    if level is None or engine.dialect.name == "sqlite":  # which is SERIALIZABLE always
        return NOTHING
    if level == "READ UNCOMMITTED" and engine.dialect.name == "postgresql":
        level = "READ COMMITTED"  # what it means there, and asyncpg does not know the other word
    return {"isolation_level": level}


def readonly_of(engine: Engine) -> Options:
    """Return the option for BEGIN READ ONLY, where there is no engine for it."""
    return {"postgresql_readonly": True} if engine.dialect.name == "postgresql" else NOTHING


def after_begin(unit: Unit, connection: Connection, *, is_writer: bool) -> None:
    """Send SQLite's BEGIN, now that it is known whether the unit will write."""
    if unit.is_alone:
        recipe.skip_begin(connection)
    elif recipe.has_begun(connection):
        recipe.begin(connection, immediate=is_writer, told=unit.scope)
    if unit.is_readonly and not connection.info.get("dbscope.refuses"):
        recipe.refuse_writes_for_now(connection)
