"""A row of `once` tells what became of its transaction, whose COMMIT got no answer.

On every database, and after a crash or a failover: the row is there if the work is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from dbscope.backends import errors
from dbscope.once.store import Claim
from dbscope.once.table import TABLE, inserting
from dbscope.unit.block import Outcome

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dbscope.unit.unit import Unit


@dataclass(frozen=True, slots=True)
class RowProof:
    """The row that a transaction has written.

    Args:
        claimed: its key, and who wrote it.
    """

    claimed: Claim

    def outcome(self, connection: Connection) -> Outcome | None:
        """Return what became of it; None while the transaction may still be at work.

        To read is not enough: a COMMIT that is still to come would not be seen. So the same row is
        inserted, which waits for whoever has it, and which a server that only reads refuses.
        """
        probing = Claim(self.claimed.key, None, timedelta())
        try:
            inserting(connection.dialect).probe(connection, probing.values())
            attempt = connection.scalar(
                select(TABLE.c.attempt).where(TABLE.c.id == self.claimed.id)
            )
        except DBAPIError as error:
            if errors.has_waited_for_row(error.orig):
                return None
            raise
        finally:
            connection.rollback()
        return Outcome.COMMITTED if attempt == self.claimed.attempt else Outcome.ROLLED_BACK


def prove(unit: Unit, claimed: Claim) -> None:
    """Let the row be the proof of the transaction, if the block that wrote it is part of that."""

    def note() -> None:
        unit.proof = RowProof(claimed)

    assert unit.block is not None
    unit.block.before_commit(note)
