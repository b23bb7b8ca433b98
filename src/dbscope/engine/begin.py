"""How a transaction begins: on which engine, and with which of SQLAlchemy's options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbscope.engine.engines import plain
from dbscope.engine.sqlite import recipe

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dbscope.engine.engines import Engines
    from dbscope.unit.unit import Unit

NOTHING: dict[str, Any] = {}
AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}


def begin_with(engines: Engines, unit: Unit, asked: Any) -> tuple[Any, dict[str, Any]]:
    """Return the engine for what a unit is about to send, and options for a new connection.

    Args:
        engines: those of the database.
        unit: who asks.
        asked: the engine that the session found; another database's is left alone.
    """
    main = plain(engines.main)
    if asked is not main:
        return asked, NOTHING
    if unit.connection is not None:
        return unit.connection.engine, NOTHING
    engine = engine_for(engines, unit)
    if unit.is_readonly and engine is main:
        return main, {**isolation_of(main, unit), **readonly_of(main)}
    return engine, options_of(engine, unit)


def engine_for(engines: Engines, unit: Unit) -> Engine:
    """Return the engine that a unit takes its connection from."""
    return (engines.reader if unit.is_readonly else None) or plain(engines.main)


def options_of(engine: Engine, unit: Unit) -> dict[str, Any]:
    """Return the options of an ordinary transaction, or of a statement that needs none.

    All of them are taken back with the connection; PostgreSQL's drivers need no round trip.
    """
    if unit.reads_alone:
        # On MySQL it takes two round trips there and back, to save the one of COMMIT.
        return AUTOCOMMIT if engine.dialect.name == "postgresql" else NOTHING
    return isolation_of(engine, unit)


def isolation_of(engine: Engine, unit: Unit) -> dict[str, Any]:
    """Return the option for the isolation level that the block has asked for."""
    level = unit.blocks[0].isolation if unit.blocks else None
    if level is None or engine.dialect.name == "sqlite":  # which is SERIALIZABLE always
        return NOTHING
    if level == "READ UNCOMMITTED" and engine.dialect.name == "postgresql":
        level = "READ COMMITTED"  # what it means there, and asyncpg does not know the other word
    return {"isolation_level": level}


def readonly_of(engine: Engine) -> dict[str, Any]:
    """Return the option for BEGIN READ ONLY, where there is no engine for it."""
    return {"postgresql_readonly": True} if engine.dialect.name == "postgresql" else NOTHING


def after_begin(unit: Unit, connection: Connection, *, is_writer: bool) -> None:
    """Send SQLite's BEGIN, now that it is known whether the unit will write."""
    if unit.reads_alone:
        recipe.skip_begin(connection)
    elif recipe.has_begun(connection):
        recipe.begin(connection, immediate=is_writer, told=unit.scope)
    if unit.is_readonly and not connection.info.get("dbscope.refuses"):
        recipe.refuse_writes_for_now(connection)
