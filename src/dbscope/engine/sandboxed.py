"""The seam for tests: where a sandbox takes the place of a database's connections.

The sandbox itself is in `dbscope.testing`. What the engine knows of it is here: which line the
running code is to use, and whether a connection is one of a sandbox.
"""

from __future__ import annotations

import concurrent.futures.thread
import threading
import weakref
from collections.abc import Container
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from dbscope.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from dbscope.engine.engines import Engines


class Line(Protocol):
    """The one connection of a sandbox, as the engine sees it."""

    engine: Engine  # whose dialect speaks to it


class Opened(Protocol):
    """A sandbox that is open."""

    line: Any
    around: Opened | None  # the one that was open before, of whichever database
    is_open: bool
    has_left: bool  # the context that has opened it; others that have it were started inside
    source: Any
    where: object


# The innermost sandbox of the running code.
inside: ContextVar[Opened | None] = ContextVar("dbscope_sandbox", default=None)


class Sandboxed(Protocol):
    """A database that can have sandboxes, as they see it."""

    engines: Engines
    sandboxes: Sandboxes


def bind_of(bind: Engine | Connection) -> Engine | Connection:
    """Return the engine for a session that belongs to no scope: in a sandbox that of its line."""
    line_of = getattr(getattr(bind, "pool", None), "dbscope_line", None)
    return bind if line_of is None else line_of().engine


def _workers() -> Container[object]:
    """Return the threads of pools, which do what they are given."""
    return getattr(concurrent.futures.thread, "_threads_queues", ())


class Sandboxes:
    """Those of one database and its companion.

    Args:
        source: the database.
    """

    def __init__(self, source: Sandboxed) -> None:
        self.opened: list[Opened] = []
        self.sources: list[weakref.ref[Any]] = [weakref.ref(source)]
        self.mutex = threading.RLock()
        self.keeper: Any = None  # of the connections between two sandboxes
        self.was_opened = False
        self._known: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # were there before
        self._strays: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    def begin(self, opened: Opened) -> None:
        """Let the running code, and who has no context, be in a sandbox."""
        if not self.opened:
            self._known.update(threading.enumerate())
        self.opened.append(opened)
        self.was_opened = True

    def add(self, source: Sandboxed) -> None:
        """Let the companion have the same."""
        self.sources.append(weakref.ref(source))
        source.sandboxes = self

    def line(self) -> Any:
        """Return the line that the running code is to use.

        Its context tells which; code that was started elsewhere, a thread say, has none, and uses
        the only one that there is.

        Raises:
            ConfigurationError: there are several, and nothing tells which.
        """
        self.check()
        lines = list({id(each.line): each.line for each in self.opened}.values())
        here = inside.get()
        while here is not None:
            if here.is_open and here.line in lines:
                return here.line
            here = here.around
        if len(lines) > 1:
            raise ConfigurationError(
                f"{len(lines)} sandboxes of this database are open, and this code belongs to none "
                "of them: it was started before them, or in a thread without their context. Start "
                "it inside of one: `threading.Thread(target=contextvars.copy_context().run, ...)`."
            )
        if (thread := threading.current_thread()) not in self._known:
            self._strays.add(thread)
        return lines[0]

    def _is_stray(self, thread: threading.Thread) -> bool:
        # Of one that was there before, or that belongs to a pool, nobody can tell whose work it
        # does; any other one does that of who has started it.
        return thread in self._strays and thread not in _workers()

    def check(self) -> None:
        """Refuse code that was started in a sandbox which has ended, and is not in another one.

        What it did would be a part of the next test, or would be stored for good.

        Raises:
            ConfigurationError: it is such code.
        """
        here, ended = inside.get(), None
        if not self.opened and self._is_stray(threading.current_thread()):
            raise ConfigurationError(
                "This thread was started in a sandbox that has ended, so what it does would be "
                "stored: wait for tasks and threads before a test ends."
            )
        while here is not None:
            if here.is_open and here in self.opened:
                return
            if here.has_left and any(here.source is known() for known in self.sources):
                ended = ended or here
            here = here.around
        if ended is not None:
            raise ConfigurationError(
                f"The sandbox opened at {ended.where} has ended, and this code was started in it: "
                "wait for tasks and threads before a test ends."
            )

    def prepared(self, source: Sandboxed, engine: Engine) -> None:
        """Take the place of the connections of an engine that was made just now."""
        if self.opened and source.engines.plain is None:  # else it is one that work is routed to
            self.opened[-1].line.keeper.take_over(source, engine)

    def dispose(self) -> None:
        """Close what is kept between two sandboxes."""
        if self.keeper is not None and not self.opened:
            keeper, self.keeper = self.keeper, None
            keeper.close()
