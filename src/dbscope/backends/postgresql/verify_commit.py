"""`verify_commit`: the lost answer of a COMMIT becomes a known outcome.

The id of the transaction is noted before COMMIT, and a fresh connection is asked what became of it
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT).

An id is good for one life of a server: an id that did not get to the disk before a crash, or to the
replica before a failover, is given to somebody else afterwards. So the life is noted with it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from dbscope.errors import DBScopeError
from dbscope.unit.block import Outcome

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dbscope.unit.unit import Unit

logger = logging.getLogger("dbscope")

# What changes with each life, and everybody may read: another cluster; another timeline, by a
# promotion; the server was started; it has recovered from the crash of one of its processes, by
# which it forgets its statistics (the start of the checkpointer is for `pg_monitor` only).
LIFE = """concat_ws('/',
 (SELECT system_identifier FROM pg_control_system()),
 CASE WHEN NOT pg_is_in_recovery()
 THEN substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
 extract(epoch FROM pg_postmaster_start_time()),
 extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()))"""
NOTE = f"""SELECT xid::text, {LIFE} FROM pg_current_xact_id_if_assigned() AS xid
 WHERE xid IS NOT NULL"""  # noqa: S608
STATUS = text(f"""SELECT CASE WHEN {LIFE} = CAST(:life AS text)
 THEN pg_xact_status(CAST(CAST(:xid AS text) AS xid8)) END""")
OUTCOMES = {"committed": Outcome.COMMITTED, "aborted": Outcome.ROLLED_BACK}
PAUSES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.4)  # seconds; the server may not have come to it yet


@dataclass(frozen=True)
class Transaction:
    """A transaction that has written: the proof of what became of it.

    Args:
        xid: its id.
        life: of the server that gave it.
    """

    xid: str
    life: str

    def outcome(self, connection: Connection) -> Outcome | None:
        """Return what the server says; UNKNOWN if it does not know; None if it is in progress."""
        status = connection.execute(STATUS, {"xid": self.xid, "life": self.life}).scalar()
        return None if status == "in progress" else OUTCOMES.get(status or "", Outcome.UNKNOWN)


def note(unit: Unit, connection: Connection) -> None:
    """Note the transaction that is about to be committed; None if it wrote nothing."""
    row = connection.exec_driver_sql(NOTE).first()
    unit.proof = None if row is None else Transaction(*row)


def outcome(engine: Engine, unit: Unit) -> Outcome:
    """Return what became of a transaction; UNKNOWN if nobody can be asked, or knows it."""
    try:
        return _ask(engine, unit)
    except (SQLAlchemyError, DBScopeError, OSError) as error:
        logger.warning("What became of the COMMIT of %s cannot be found out: %s", unit.scope, error)
    return Outcome.UNKNOWN


def _ask(engine: Engine, unit: Unit) -> Outcome:
    """Ask for the proof on a fresh connection, again and again for a while."""
    with engine.connect() as connection:
        for pause in PAUSES:
            found = None if unit.proof is None else unit.proof.outcome(connection)
            if found is not None:
                return found
            unit.turn.world.sleep(pause)
        return Outcome.UNKNOWN
