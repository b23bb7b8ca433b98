"""How a transaction begins: with which of SQLAlchemy's options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from dbscope.backends.base import NOTHING, Options
from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dbscope.engine.engines import Engines
    from dbscope.unit.unit import Unit


def options_of(unit: Unit, bind: Engine | Connection, engines: Engines) -> Options:
    """Return the options for the transaction of a unit, or for a statement that needs none.

    All of them are taken back with the connection.

    Args:
        unit: who begins.
        bind: where; a connection is its owner's, and stays as it is.
        engines: those of the database; its reader cannot write, and need not be told.

    Raises:
        ConfigurationError: the block asks for what a connection of somebody else cannot be told.
    """
    if isinstance(bind, Connection):
        return _leave_alone(unit)
    backend = engines.backend
    refuses_writes = unit.is_readonly and bind is not engines.reader
    if unit.is_alone and not refuses_writes:
        return backend.alone_options
    level = unit.blocks[0].isolation if unit.blocks else None
    options = NOTHING if level is None else backend.isolation_options(level)
    return {**options, **backend.readonly_options} if refuses_writes else options


def _leave_alone(unit: Unit) -> Options:
    if unit.blocks and unit.blocks[0].has_attributes:
        raise ConfigurationError(
            f"{unit.blocks[0]} asks for an isolation level or to be read-only, and its session is "
            "bound to a connection, for which only the owner of that connection can decide it."
        )
    return NOTHING
