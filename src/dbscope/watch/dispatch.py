"""How what happens is told: to the counters, to the log, and to those who listen."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from weakref import ref

from dbscope import arguments
from dbscope.errors import ProblemFound
from dbscope.watch.counters import COUNTED
from dbscope.watch.events import Event
from dbscope.watch.logs import LOGGED

Listener = Callable[[Event], object]
L = TypeVar("L", bound=Callable[[Any], object])

logger = logging.getLogger("dbscope")


class DirectListener:
    """Is told of what happens by calls of its own, with the facts, and no event is made for it.

    Nothing that goes wrong in it comes out of it, but `ProblemFound`.
    """

    def hearers(self) -> Mapping[type[Event], Callable[..., object]]:
        """Return what is called for each kind of event, with what its fields are, in their order.

        Of statements it is told by the following, for there are many of them.
        """
        raise NotImplementedError

    @staticmethod
    def here(above: int = 0) -> Any:
        """Return the line that is to be remembered while the session executes a statement.

        Args:
            above: how many calls above this one are not the application's, as is known beforehand.
        """
        raise NotImplementedError

    def begin(self, unit: Any, sql: str, parameters: Any, context: Any) -> Any:
        """A statement is about to be sent; the arguments are those of `StatementBegun`.

        Returns:
            What `end` is to be given.
        """
        raise NotImplementedError

    def end(self, noted: Any, context: Any, error: BaseException | None) -> None:
        """Its answer is here; see `begin` and `StatementEnded`."""
        raise NotImplementedError


class Remembering:
    """A listener that remembers work which goes on."""

    def start_anew(self) -> None:
        """Forget it, in a process that was forked: it is the parent's."""
        raise NotImplementedError


class Listeners(list[Listener | DirectListener]):
    """Those who listen to one database, in both of its kinds."""

    __slots__ = ("__weakref__", "comment", "direct", "heals", "hearers", "others", "watch")

    def __init__(self) -> None:
        super().__init__()
        self.watch: Any = None  # of both kinds
        self.direct: DirectListener | None = None  # it is one of them
        self.hearers: Mapping[type[Event], Callable[..., object]] = {}  # of that one
        self.others: tuple[Listener, ...] = ()  # for whom events are made
        self.heals = False  # what is loaded late for one object is loaded for its peers too
        # Adds to the text that is sent, given unit, text, context, and whether it has parameters.
        self.comment: Callable[[Any, str, Any, bool], str] | None = None

    def sort_out(self) -> None:
        """Find out who is told, and how."""
        found: list[Any] = list(self)
        self.direct = next((each for each in found if isinstance(each, DirectListener)), None)
        self.others = tuple(each for each in found if each is not self.direct)
        self.hearers = {} if self.direct is None else self.direct.hearers()

    def tell(self, kind: type[Event], facts: tuple[Any, ...]) -> None:
        """Tell all of them; the event is made only if one of them wants it."""
        hear = self.hearers.get(kind)
        if hear is not None:
            try:
                hear(*facts)
            except ProblemFound:  # it was asked for
                raise
            except Exception as error:
                complain(kind, error)
        if self.others:
            call(kind(*facts), self.others)


class Events:
    """What happens in one database: `db.events`.

    Both kinds of a database, `db.sync` and `db.async_`, have the same listeners.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.listeners = Listeners()

    def start_anew(self) -> None:
        """Know nothing of what the parent has done, in a process that was forked."""
        self.counters.clear()
        found: list[object] = list(self.listeners)
        for each in found:
            if isinstance(each, Remembering):
                each.start_anew()

    def share(self, other: Events) -> None:
        """Have the listeners of the companion."""
        self.listeners = other.listeners

    def listen(self, function: L) -> L:
        """Call the function with everything that happens from now on; also a decorator.

        It is called where it happens, in the task or thread of the work, and must not wait. Its
        errors are logged and change nothing. Without listeners nothing is made to be told.

        Args:
            function: plain, of one `Event` (see `dbscope.watch.events`).

        Returns:
            The function.

        Raises:
            TypeError: it cannot be called.

        Example:
            >>> @db.events.listen
            ... def count(event: Event) -> None:
            ...     if isinstance(event, CommitFailed):
            ...         failures.add(1, {"scope": event.unit.scope.name})
        """
        arguments.check("listener", function, arguments.CALLED, TypeError)
        self.add(function)
        return function

    def add(self, listener: Listener | DirectListener) -> None:
        """Tell a listener of what happens from now on."""
        if not self.listeners:
            heard.append(ref(self.listeners, heard.remove))
        self.listeners.append(listener)
        self.listeners.sort_out()

    def remove(self, function: Listener | DirectListener) -> None:
        """Call the function no longer.

        Raises:
            ValueError: it does not listen.
        """
        self.listeners.remove(function)
        self.listeners.sort_out()
        if not self.listeners:
            heard[:] = [each for each in heard if each() is not self.listeners]

    def tell(self, kind: type[Event], *facts: Any) -> None:
        """Count what has happened; make the event only if somebody is to hear of it."""
        name = COUNTED.get(kind)
        if name is not None:
            self.counters[name] += 1
        if kind in LOGGED:
            LOGGED[kind](kind(*facts))
        if self.listeners:
            self.listeners.tell(kind, facts)


complained: set[type] = set()  # in which a listener has failed
heard: list[ref[Listeners]] = []  # of all databases of which somebody wants to hear


def tell_all(kind: type[Event], *facts: Any) -> None:
    """Tell what belongs to a request, or to work that is done again, and to no single database."""
    if kind in LOGGED:
        LOGGED[kind](kind(*facts))
    for listeners in [each() for each in heard]:
        if listeners is not None:
            listeners.tell(kind, facts)


def call(event: Any, listeners: Sequence[Callable[[Any], object]]) -> None:
    """Call the listeners; what one of them raises is none of the work's business.

    Args:
        event: or a record, of who makes them.
        listeners: who is told of it.
    """
    for listener in tuple(listeners):  # one of them may be removed meanwhile, by itself say
        try:
            listener(event)
        except ProblemFound:  # it was asked for
            raise
        except Exception as error:
            complain(event.__class__, error)


def complain(kind: type, error: Exception) -> None:
    """Report a listener that has failed, once: the next statement would say the same."""
    if kind not in complained:
        complained.add(kind)
        told = "A listener failed when it was told of %s."
        logger.error(told, kind.__name__, exc_info=error)
