"""`verify_commit`: the lost answer of a COMMIT becomes a known outcome.

The id of the transaction is noted before COMMIT, and a fresh connection is asked what became of it
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from dbscope.errors import DBScopeError
from dbscope.unit.block import Outcome

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dbscope.unit.unit import Unit

logger = logging.getLogger("dbscope")

XID = "SELECT pg_current_xact_id_if_assigned()::text"
STATUS = text("SELECT pg_xact_status(CAST(CAST(:xid AS text) AS xid8))")
OUTCOMES = {"committed": Outcome.COMMITTED, "aborted": Outcome.ROLLED_BACK}
PAUSES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4)  # seconds; the server may not have come to it yet


def note(unit: Unit, connection: Connection) -> None:
    """Note the id of a transaction that is about to be committed; None if it wrote nothing."""
    unit.xid = connection.exec_driver_sql(XID).scalar()


def outcome(engine: Engine, unit: Unit) -> Outcome:
    """Return what became of a transaction; UNKNOWN if nobody can be asked, or knows it."""
    try:
        for status in statuses(engine, unit):
            if status != "in progress":
                return OUTCOMES.get(status or "", Outcome.UNKNOWN)
    except (SQLAlchemyError, DBScopeError, OSError) as error:
        logger.warning("What became of the COMMIT of %s cannot be found out: %s", unit.scope, error)
    return Outcome.UNKNOWN


def statuses(engine: Engine, unit: Unit) -> Iterator[str | None]:
    """Give what the server says, again and again for a while."""
    with engine.connect() as connection:
        for pause in PAUSES:
            yield connection.execute(STATUS, {"xid": unit.xid}).scalar()
            unit.turn.world.sleep(pause)
        connection.rollback()
