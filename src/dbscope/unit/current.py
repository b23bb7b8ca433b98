"""The scope that the running code belongs to: read here, set only in scopes/."""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from dbscope.errors import ConcurrentUse, NeverAwaited, ScopeClosed, ScopeMissing
from dbscope.unit import callsite, serving
from dbscope.unit.policy import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dbscope.unit.source import Source
    from dbscope.unit.unit import Unit


class Scope:
    """A lifetime within which all code shares one session for each database.

    It is a box: whatever a worker thread or a child task opens in it is seen by whoever ends it.
    """

    closed = False
    closed_reason = "was used after the end of"
    stored = False  # something in it was committed, or may have been
    mode = Mode.ATOMIC
    will_write = True
    forgotten: tuple[str, ...] = ()  # calls that nobody has awaited
    kind = "scope"
    kind_inside = "scope"  # what a scope is that is opened inside
    attempts: Any = None  # of which it is one
    is_watched = False  # not all code that runs in it may use it now
    opener: Any = None  # the task that has opened it, where it is known
    strays: tuple[Any, ...] = ()  # tasks that had begun to write in it when that was ended
    runs_background = False  # what is left in it runs when it has ended
    can_await = True  # whoever ends it
    background: tuple[Callable[[], object], ...] = ()  # what is left in it
    is_hook = False  # which runs when the work around it has ended
    parent: Scope | None = None

    def __init__(self, label: str, mode: Mode = Mode.ATOMIC) -> None:
        self.label = label
        self.mode = mode
        self.parent = current.get()
        self.units: dict[Source, Unit] = {}
        if self.parent is not None:
            self.parent.note_opened(self)

    def never_awaited(self) -> NeverAwaited | None:
        """Return the error for what was forgotten since it was asked, if anything was."""
        calls, self.forgotten = self.forgotten, ()
        return NeverAwaited(f"In {self}, {'; '.join(calls)}.") if calls else None

    def note_stored(self, *, outer: bool = True) -> None:
        """Note that something in it was committed, or may have been, so it is not done again.

        Args:
            outer: tell the scopes around it, too: it has written, and they would do it again.
        """
        self.stored = True
        if outer and self.parent is not None and not self.is_hook:
            self.parent.note_stored()

    def note_opened(self, inner: Scope) -> None:
        """Tell whoever answers for this scope that another one was opened in it."""
        if self.parent is not None:
            self.parent.note_opened(inner)

    def note_ended(self, inner: Scope) -> None:
        """Tell the same that it has ended."""
        if self.parent is not None:
            self.parent.note_ended(inner)

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return str(self)

    def __str__(self) -> str:
        return self.label

    def mode_of(self, source: Source) -> Mode:  # noqa: ARG002  (a request asks its route)
        """Return what this scope is to a database."""
        return self.mode

    def note_strays(self, tasks: tuple[Any, ...]) -> None:
        """Note tasks that had begun to write when it was ended: they must not go on in it."""
        self.strays += tasks
        self.is_watched = self.is_watched or bool(tasks)

    def refuse_stray(self, task: Any) -> None:
        """Raise if this task is one of those.

        Raises:
            ConcurrentUse: it is.
        """
        if task in self.strays:
            raise ConcurrentUse(
                f"{serving.name_of(task)} had begun to write in {self}, which has ended: what it "
                "did is decided, and what it does now would be another transaction."
            )

    def is_ahead(self) -> bool:
        """Tell whether the code that runs now belongs behind the end of the scope's own work."""
        return False

    def is_read_behind(self) -> bool:
        """Tell whether somebody may go on reading when its transaction has ended."""
        return False

    def with_ancestors(self) -> Iterator[Scope]:
        """Give this scope and those it was opened in, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Scope {self.name} {state} {list(self.units.values())!r}>"


current: ContextVar[Scope | None] = ContextVar("dbscope_scope", default=None)


# What a server is about here, if our middleware is around it and opens no scope for it.
served: ContextVar[str | None] = ContextVar("dbscope_served", default=None)
installed: WeakSet[Source] = WeakSet()
in_generators: WeakSet[Scope] = WeakSet()  # scopes that a generator has opened

WHY_MISSING = {
    "lifespan": "The start and the end of an application, and tasks begun there, are no request",
}


def why_missing(source: Source) -> str:
    """Return why there may be no scope though somebody has done something about it."""
    return _at_the_import(callsite.here()) or _around_the_code(source)


def _at_the_import(where: object) -> str:
    if isinstance(where, callsite.Place) and "Depends" in where.code.co_names:
        return " A dependency takes the session when it is called: `Depends(db.get_session)`."
    if callsite.is_of_module(where):
        return (
            " What stands in a module or a class, defaults of parameters too, runs when that is "
            "imported: take the session in the function that uses it."
        )
    return ""


def _around_the_code(source: Source) -> str:
    if source not in installed and any(each["type"] != "lifespan" for each in serving.scopes()):
        return " A request is served here, by an application without `install` of this database."
    if not copy_context() and current_thread() is not main_thread():
        return (
            " This thread was begun without the context of who began it: `asyncio.to_thread` and "
            "`copy_context().run` take it along, a Thread and `run_in_executor` do not. Work that "
            "goes on beside the scope needs one of its own."
        )
    if (kind := served.get()) in WHY_MISSING:
        return f" {WHY_MISSING[kind]}."
    elsewhere = [str(scope) for scope in in_generators if not scope.closed]
    if elsewhere:
        return (
            f" In another context there is {' and '.join(elsewhere)}: what an async fixture sets "
            "is not seen in the test by pytest-asyncio before 0.25, nor by a fixture of another "
            "loop. Open the scope in the test, or use a newer one."
        )
    if source in installed:
        return (
            " `install` was called, and its middleware is not around this code: a middleware that "
            "was added later is outside of it (call `install` last), and so is what no request "
            "has begun."
        )
    return ""


def open_scope() -> Scope | None:
    """Return the scope of the running code, or None where there is none that is still open."""
    scope = current.get()
    return None if scope is None or scope.closed else scope


def unit_of(source: Source) -> Unit:
    """Return the unit of this database in the current scope; made at the first call.

    Raises:
        ScopeMissing: no scope is open here.
        ScopeClosed: the scope that this code was started in has ended.
    """
    scope = current.get()
    if scope is None:
        raise ScopeMissing(f"{source} was used outside any scope.{why_missing(source)}")
    unit = scope.units.get(source)
    if unit is None:
        if scope.closed:
            raise ScopeClosed(f"{source} {scope.closed_reason} {scope}.")
        unit = scope.units.setdefault(source, source.make_unit(scope))
    return unit
