"""The claim of a key in a unit, begun again where two who wanted the same were in each other's way.

On MySQL all who wait for a key are in a deadlock when its owner rolls back, but for one; with
isolation they cannot see what was done meanwhile. As long as the claim is the first thing that the
transaction does, the transaction is begun anew.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, cast

from sqlalchemy.exc import DBAPIError

from dbscope.backends import conflicts, errors
from dbscope.once import store
from dbscope.once.proof import prove
from dbscope.unit.ownership import InternalEnd
from dbscope.unit.sessions import is_clean
from dbscope.watch.events import KeyFound

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dbscope.once.store import Claim, Found
    from dbscope.unit.unit import Unit

NOTE = "That of `once` is made by `db.ensure_schema(dbscope.once.metadata)`, or by a migration."
TRIES = 20
PAUSE = 0.02  # seconds at most
RANDOM = random.Random()  # noqa: S311  (nothing secret)


def claim(unit: Unit, wanted: Claim, *, wait: bool = True) -> Found | None:
    """Take the key in the innermost block of the unit; see `store.claim`."""
    session, is_first = session_of(unit), _is_first(unit)
    for tries_left in reversed(range(TRIES)):
        try:
            found = store.claim(session, wanted, wait=wait)
        except DBAPIError as error:
            _note(error)
            if not (is_first and tries_left and conflicts.is_retryable(error)):
                raise
        else:
            if found is None:
                prove(unit, wanted)
            elif is_first:  # nothing is left that a COMMIT could leave open
                unit.source.events.tell(KeyFound, unit)
                _begin_again(unit, session)
            return found
        _begin_again(unit, session)
        unit.turn.world.sleep(RANDOM.random() * PAUSE)
    raise AssertionError


def find(unit: Unit, wanted: Claim) -> Found | None:
    """Look what was done under the key; see `store.find`."""
    try:
        return store.find(session_of(unit), wanted)
    except DBAPIError as error:
        _note(error)
        raise


def _note(error: DBAPIError) -> None:
    if errors.is_missing_table(error.orig):
        error.add_note(NOTE)


def _is_first(unit: Unit) -> bool:
    """Tell whether its transaction has done nothing, and has nothing to do yet."""
    return unit.connection is None and (unit.session is None or is_clean(unit.session))


def _begin_again(unit: Unit, session: Session) -> None:
    with InternalEnd(unit):
        session.rollback()
    for block in unit.blocks:
        block.fault = None
    unit.broken = False


def session_of(unit: Unit) -> Session:
    """Return the plain session of a unit."""
    unit.open_session()
    return cast("Session", unit.session)
