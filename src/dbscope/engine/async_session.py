"""The async session that people hold: its COMMIT by hand is carried to the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

from dbscope.aio import concurrency, shield
from dbscope.engine.session import session_class
from dbscope.unit import callsite, forgotten, manual
from dbscope.watch.events import EndAsked

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from dbscope.unit.unit import Unit


class UnitTransaction(AsyncSessionTransaction):
    """`session.begin()` by hand: its COMMIT is carried to the end, and then come the hooks."""

    __slots__ = ("where",)

    def __init__(self, session: AsyncSession, nested: bool = False) -> None:
        super().__init__(session, nested)
        self.where = callsite.here()

    def __del__(self) -> None:
        unit: Unit | None = getattr(self.session.sync_session, "dbscope_unit", None)
        if unit is not None and self.sync_transaction is None:
            called = "session.begin_nested" if self.nested else "session.begin"
            thrown_away_by = sys._getframe().f_back  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            forgotten.note_never_entered(called, self.where, thrown_away_by)

    async def commit(self) -> None:
        """Commit."""
        await carry_end(self.session, self._sync_transaction().commit)

    async def rollback(self) -> None:
        """Roll back."""
        await carry_end(self.session, self._sync_transaction().rollback)

    async def __aexit__(self, type_: Any, value: Any, traceback: Any) -> None:
        await carry_end(self.session, self._sync_transaction().__exit__, type_, value, traceback)


class AsyncUnitSession(AsyncSession):
    """An `AsyncSession` of a unit; see `UnitSession`."""

    async def commit(self) -> None:
        """Commit by hand, to the end; then run the hooks."""
        check_by_hand(self, keep=True)
        await carry_end(self, self.sync_session.commit)

    async def rollback(self) -> None:
        """Roll back by hand, to the end."""
        check_by_hand(self, keep=False)
        await carry_end(self, self.sync_session.rollback)

    def begin(self) -> AsyncSessionTransaction:
        """Begin a transaction by hand."""
        return UnitTransaction(self)

    def begin_nested(self) -> AsyncSessionTransaction:
        """Open a savepoint by hand."""
        return UnitTransaction(self, nested=True)


def check_by_hand(session: AsyncSession, *, keep: bool) -> None:
    """Refuse a COMMIT or ROLLBACK by hand where it was called: its own task knows no caller."""
    unit: Unit | None = getattr(session.sync_session, "dbscope_unit", None)
    if unit is not None and not unit.leaving:
        unit.check_open()
        manual.check_allowed(unit)
        unit.source.events.tell(EndAsked, unit, "commit()" if keep else "rollback()")
        if keep:
            manual.check_wanted(unit)


async def carry_end(session: AsyncSession, end: Callable[..., object], *args: Any) -> None:
    """Carry a COMMIT or ROLLBACK by hand to the end, with the hooks that belong to it."""
    unit: Unit | None = getattr(session.sync_session, "dbscope_unit", None)
    if unit is None:
        await concurrency.in_greenlet(end, *args)
        return
    unit.check_open()
    work = concurrency.in_greenlet(end, *args)
    await shield.to_the_end(work, limit=unit.source.finish_timeout)


def async_session_class(
    base: type[AsyncSession], plain: type[Session] | None = None
) -> type[AsyncSession]:
    """Return the class of `base`, between `AsyncUnitSession` and `CarriedSession`.

    Args:
        base: what the sessions are to be.
        plain: what the session inside is to be; None: what `base` says.
    """
    from dbscope.engine.carried_session import CarriedSession

    members = {
        "__module__": __name__,
        "sync_session_class": session_class(plain or base.sync_session_class),
    }
    bases: tuple[Any, ...] = (AsyncUnitSession, base, CarriedSession)
    if base is AsyncSession:
        bases = (AsyncUnitSession, CarriedSession)
    return type("AsyncUnitSession", bases, members)
