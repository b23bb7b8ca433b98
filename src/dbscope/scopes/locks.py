"""Locks on rows, and giving a connection back before a slow call.

Plain functions over a plain session; async code carries them in a greenlet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import object_session

from dbscope.errors import TransactionManagementError
from dbscope.unit.ownership import InternalEnd
from dbscope.unit.sessions import is_clean

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dbscope.unit.unit import Unit

T = TypeVar("T")


def lock(
    unit: Unit, instance: T, *, nowait: bool, skip_locked: bool, of: Sequence[Any]
) -> T | None:
    """Lock the row of an object, and load it afresh.

    Raises:
        ValueError: `nowait` and `skip_locked` together.
        TransactionManagementError: the object has changes, which loading would overwrite, or it
            is not in this session.
    """
    if nowait and skip_locked:
        raise ValueError(
            "nowait and skip_locked exclude each other: an error at once, or None; choose one."
        )
    unit.open_session()
    session = cast("Session", unit.session)
    if object_session(instance) is not session:
        raise TransactionManagementError(
            f"{instance!r} is not in the session of {unit.scope}; get it there, or `merge` it."
        )
    if changed := changes(instance):
        raise TransactionManagementError(
            f"{instance!r} has changes in {', '.join(changed)}, which locking would overwrite; "
            "lock it before changing it, or flush first."
        )
    how = {"nowait": nowait, "skip_locked": skip_locked, "of": tuple(of) or None}
    try:
        session.refresh(instance, with_for_update=how)
    except InvalidRequestError:
        if skip_locked:
            return None
        raise
    return instance


def changes(instance: Any) -> list[str]:
    """Return the names of the attributes that were changed and not flushed."""
    return [each.key for each in inspect(instance).attrs if each.history.has_changes()]


def release(unit: Unit) -> None:
    """Give the connection back; the next statement takes one again, in a new transaction.

    Raises:
        TransactionManagementError: there is something that only the end of the scope may keep or
            undo: writes, locks, changed objects, or a block that is open.
    """
    unit.check_free()
    session, block = unit.session, unit.block
    if session is None:
        return
    if block is not None and (block.owner is not None or block.parent is not None):
        raise TransactionManagementError(f"release() was called inside {block}; leave it first.")
    if unit.first_write is not None or not is_clean(session):
        raise TransactionManagementError(
            f"release() was called in {unit.scope}, which has written; only its end can keep that."
        )
    if unit.connection is not None:
        with InternalEnd(unit):
            session.commit()
