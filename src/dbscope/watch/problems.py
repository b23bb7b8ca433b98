"""Problems that are found by themselves: N+1, and the same read twice; each with a remedy.

By what the ORM says itself: which attribute of which object it loads, and by which path that object
was loaded. So what is written for each row is told from what only looks like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbscope.watch import lines
from dbscope.watch.loads import Load, load_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dbscope.watch.parts import Asked, Gap, Sent, Transaction

MANY = 3  # times: from here on it grows with the number of rows
MOST = 10_000  # different reads of a scope that are remembered
IDLE = "idle in a transaction"
LONG = 0.5  # seconds that a transaction may be idle without a word


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that costs more than it has to, and what to do about it."""

    kind: str  # N+1, duplicate read, …
    what: str  # an attribute, A.bs, or the fingerprint of a statement
    times: int
    line: str | None  # where the remedy is to be written
    at: str | None  # where it happens
    remedy: str  # to be pasted

    @property
    def place(self) -> object:
        """Return what is equal for a problem that comes again."""
        idle = self.kind == IDLE  # never for the same time again
        return (self.kind, None if idle else self.what, self.line, self.at)

    def __str__(self) -> str:
        where = f" at {self.at}" if self.at else ""
        there = f" at {self.line}" if self.line and self.line != self.at else ""
        times = f", {self.times} times" if self.times > 1 else ""
        return f"{self.kind}: {self.what}{times}{where}; {self.remedy}{there}"


@dataclass(slots=True)
class Repeated:
    """Something that was read before, in the same scope."""

    load: Load | None  # None: a statement of the application
    what: str
    at: Any  # the line that reads
    times: int = 0
    keys: set[Any] | None = None  # of a `get`: the same missing row again is no loop
    line: Any = None  # of the query that has loaded the parents
    is_get: bool = False
    eager: frozenset[str] = frozenset()  # attributes that it loads already

    def problem(self) -> Problem | None:
        """Return the problem that it is, if it is one."""
        if self.times < MANY:
            return None
        at = lines.told(self.at)
        if self.load is None:
            remedy = "keep the result in a variable"
            return Problem("duplicate read", self.what, self.times, at, at, remedy)
        remedy = self.load.remedy(is_get=self.is_get, eager=self.eager)
        line = at if self.line is None else lines.told(self.line)
        return Problem("N+1", self.what, self.times, line, at, remedy)


# A statement, what the session was asked for, its values, and what SQLAlchemy has made of it.
Query = tuple["Sent", "Asked | None", Any, Any]


class Seen:
    """What one scope has loaded so far, by attribute and by line.

    A query of the application is looked at when something comes that may belong to it, or at the
    end: most scopes read nothing twice, and that can be told of all at once.
    """

    __slots__ = ("queries", "reads", "repeated", "unread")

    def __init__(self) -> None:
        self.unread: list[Query] = []
        self.queries: dict[Any, tuple[Any, bool]] = {}  # line of the last query, is it a get?
        self.reads: set[Any] = set()  # what was read, with which values, where
        self.repeated: dict[Any, Repeated] = {}

    def seal(self) -> None:
        """Forget all but what has come too often; it has values of the application."""
        if self.reads or self.repeated or _are_repeated(self.unread):
            self.read()
        self.queries, self.reads, self.unread = {}, set(), []
        found = [each for each in self.repeated.values() if each.times >= MANY]
        self.repeated = dict(enumerate(found))
        for each in found:
            each.keys = None

    def read(self) -> None:
        """Look at the queries that nobody has looked at."""
        waiting, self.unread = self.unread, []  # so that one which fails does so once
        for query in waiting:
            self.look(query)

    def look(self, query: Query) -> Repeated | None:
        """Return what a statement repeats, if it does."""
        sent, asked, parameters, compiled = query
        if asked is None:
            return _read(self, sent, parameters)
        if asked[0] is None:  # of a flush
            return None
        load = load_of(asked[0], asked[1], compiled)
        if load is not None and load.what is not None:
            return _loaded(self, load, sent, parameters)
        if load is not None:
            self.queries[load.root] = (sent.line, False)
        return _read(self, sent, parameters) if parameters else None

    def problems(self) -> list[Problem]:
        """Return what has come too often."""
        found = [each.problem() for each in self.repeated.values()]
        return [problem for problem in found if problem is not None]


class Finder:
    """Looks at each SELECT that is about to be sent, if it cannot wait (see `Seen`)."""

    def __init__(self) -> None:
        self.strict: Callable[[Problem], None] | None = None  # is told at once

    def look(self, seen: Seen, query: Query) -> None:
        """Look at one, and at those that have waited for it.

        Args:
            seen: what its scope has loaded so far.
            query: the statement.
        """
        seen.read()
        found = seen.look(query)
        if found is not None and self.strict is not None and (problem := found.problem()):
            self.strict(problem)


def _are_repeated(queries: list[Query]) -> bool:
    """Tell whether one of these comes twice, or cannot be told from others that fast."""
    places = [
        (sent.sql.text, given if given.__class__ is tuple else key_of(given), sent.line)
        for sent, asked, given, _ in queries
        if given or asked is None
    ]
    try:
        return len(set(places)) < len(places)
    except TypeError:
        return True


def _loaded(seen: Seen, load: Load, sent: Sent, parameters: Any) -> Repeated:
    if load.kind == "get":  # the attributes of what it loads may be loaded later
        seen.queries[load.root] = (sent.line, True)
    place = (load.what, load.kind)
    found = seen.repeated.get(place)
    if found is None:
        found = seen.repeated[place] = Repeated(load, str(load.what), sent.line)
        if load.kind == "get":
            found.keys = set()
        else:
            found.line, found.is_get = seen.queries.get(load.root, (None, False))
            late = {each.what for each in seen.repeated.values() if each.load is not None}
            found.eager = frozenset(map(str, load.path[:-1])) - late
    if found.keys is None:
        found.times += 1
    elif len(found.keys) < MOST:
        found.keys.add(key_of(parameters))
        found.times = len(found.keys)
    return found


def _read(seen: Seen, sent: Sent, parameters: Any) -> Repeated | None:
    key: Any = parameters if parameters.__class__ is tuple else key_of(parameters)
    place: Any = (sent.sql.text, key, sent.line)
    reads = seen.reads
    try:
        is_known = place in reads
    except TypeError:
        place = (sent.sql.text, repr(key), sent.line)
        is_known = place in reads
    if not is_known:
        if len(reads) < MOST:
            reads.add(place)
        return None
    found = seen.repeated.get(place)
    if found is None:
        found = seen.repeated[place] = Repeated(None, sent.sql.text, sent.line, 1)
    found.times += 1
    return found


def key_of(parameters: Any) -> Any:
    """Return what is equal for equal values of a statement."""
    given: Any = parameters
    try:
        key: tuple[Any, ...] = tuple(given.values() if hasattr(given, "values") else given or ())
        hash(key)
    except TypeError:
        return repr(given)
    return key


def of_scope(
    kind: str, gaps: Iterable[Gap], transactions: Iterable[Transaction]
) -> Iterator[Problem]:
    """Return the problems that only the end of a scope shows."""
    remedy = "give the connection back before: `db.release()`"
    for gap in gaps:
        if gap.seconds >= LONG:
            yield Problem(IDLE, f"{gap.seconds:.1f} s", 1, gap.after, gap.before, remedy)
    for each in transactions:
        if kind == "request" and each.by_hand is not None and each.outcome == "committed":
            remedy = "leave it to the end of the request, or do that part in `db.atomic()`"
            where = each.by_hand or None
            yield Problem("commit by hand", "in a request", 1, where, where, remedy)
