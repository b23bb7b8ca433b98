"""The answer to a COMMIT was lost: a fresh connection is asked what became of the transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from dbscope.errors import DBScopeError
from dbscope.unit.block import Outcome
from dbscope.watch.events import OutcomeNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from dbscope.unit.unit import Unit

RECONNECTS = (0.0, 0.05, 0.2, 0.5, 1.0)  # seconds
PAUSES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4)  # seconds; the server may not have come to it yet


def as_found(connection: Connection) -> bool:  # noqa: ARG001
    """Take what is found stored for what is committed."""
    return True


def outcome(engine: Engine, unit: Unit, lasts: Callable[[Connection], bool]) -> Outcome:
    """Return what became of a transaction; UNKNOWN if nobody can be asked, or knows it.

    Where the server is gone, another may take its place soon, and connections that are in the pool
    may be gone with it.

    Args:
        engine: of its database.
        unit: whose transaction it was.
        lasts: tells whether what is found stored there is as safe as what is committed.
    """
    last: Exception | None = None
    for pause in RECONNECTS:
        if pause:
            unit.turn.world.sleep(pause)
        try:
            return _ask(engine, unit, lasts)
        except (SQLAlchemyError, DBScopeError, OSError) as error:
            last = error
    unit.source.events.tell(OutcomeNotFound, unit, last)
    return Outcome.UNKNOWN


def _ask(engine: Engine, unit: Unit, lasts: Callable[[Connection], bool]) -> Outcome:
    """Ask for the proof on a fresh connection, again and again for a while."""
    with engine.connect() as connection:
        for pause in PAUSES:
            found = None if unit.proof is None else unit.proof.outcome(connection)
            if found is Outcome.COMMITTED and not lasts(connection):
                return Outcome.UNKNOWN
            if found is not None:
                return found
            unit.turn.world.sleep(pause)
        return Outcome.UNKNOWN
