"""`db.sandbox()`: a test's world, of which nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from dbscope.aio import concurrency, shield
from dbscope.engine.sandboxed import inside
from dbscope.testing.keeper import Keeper
from dbscope.unit import callsite

if TYPE_CHECKING:
    from dbscope.engine.sandboxed import Opened
    from dbscope.engine.source import EngineSource
    from dbscope.testing.line import Line


class Sandbox:
    """One sandbox of a database; `with` or `async with`, whichever the test can.

    Args:
        source: the database.
        where: the line of code that opens it, for messages.
    """

    line: Line

    def __init__(self, source: EngineSource, where: object) -> None:
        self.source = source
        self.where = where
        self.is_open = False
        self.has_left = False
        self.savepoint: str | None = None  # of one inside another
        self.around: Opened | None = None

    def open(self) -> None:
        """Begin; nothing is sent before it is used."""
        sandboxes = self.source.sandboxes
        with sandboxes.mutex:
            self.line = self._line()
            self.line.enter(self)
            sandboxes.begin(self)
            for known in sandboxes.sources:
                if (source := known()) is not None:
                    self.line.keeper.take_over(source, source.engines.plain)
        self.is_open = True
        self.around = inside.get()
        inside.set(self)

    def _line(self) -> Line:
        sandboxes = self.source.sandboxes
        if sandboxes.opened and _is_inside(self.source):
            return sandboxes.line()  # type: ignore[no-any-return]
        if sandboxes.keeper is None:
            sandboxes.keeper = Keeper(self.source)
        return sandboxes.keeper.line()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Roll back all that was done in it."""
        if not self.is_open:
            return
        self.is_open = False
        sandboxes = self.source.sandboxes
        try:
            self.line.leave(self)
        finally:
            with sandboxes.mutex:
                sandboxes.opened.remove(self)
                if not sandboxes.opened:
                    self.line.keeper.give_back()

    def _forget(self) -> None:
        if inside.get() is self:  # a fixture may end in another context than it began in
            inside.set(self.around)
            self.has_left = True

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *failed: object) -> None:
        try:
            self.close()
        finally:
            self._forget()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *failed: object) -> None:
        try:
            work = concurrency.in_greenlet(self.close)
            await shield.to_the_end(work, limit=self.source.finish_timeout)
        finally:
            self._forget()

    def __repr__(self) -> str:
        return f"<Sandbox {'open' if self.is_open else 'closed'}, opened at {self.where}>"


def _is_inside(source: EngineSource) -> bool:
    """Tell whether a sandbox of this database is around the running code."""
    here: Any = inside.get()
    while here is not None:
        if here.is_open and here in source.sandboxes.opened:
            return True
        here = here.around
    return False


def sandbox(source: EngineSource) -> Sandbox:
    """Return a sandbox of a database, which is opened by `with` or `async with`."""
    return Sandbox(source, callsite.of_call())
