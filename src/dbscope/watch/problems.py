"""Problems that are found by themselves: N+1, and the same read twice; each with a remedy.

By what the ORM says itself: which attribute of which object it loads, and by which path that object
was loaded. So what is written for each row is told from what only looks like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Self

from dbscope.errors import ProblemFound
from dbscope.watch import lines
from dbscope.watch.loads import Load, load_of

if TYPE_CHECKING:
    from dbscope.watch.drafts import Draft
    from dbscope.watch.events import StatementBegun
    from dbscope.watch.records import Record, Sent
    from dbscope.watch.watcher import Watch

MANY = 3  # times: from here on it grows with the number of rows
LONG = 0.5  # seconds that a transaction may be idle without a word
Line = "Place | str | None"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that costs more than it has to, and what to do about it."""

    kind: str  # N+1, duplicate read, …
    what: str  # an attribute, A.bs, or the fingerprint of a statement
    times: int
    line: str | None  # where the remedy is to be written
    at: str | None  # where it happens
    remedy: str  # to be pasted

    def __str__(self) -> str:
        where = f" at {self.at}" if self.at else ""
        there = f" at {self.line}" if self.line and self.line != self.at else ""
        return f"{self.kind}: {self.what}, {self.times} times{where}; {self.remedy}{there}"


class Seen:
    """What one scope has loaded so far, by attribute and by line."""

    __slots__ = ("counts", "keys", "queries", "reads")

    def __init__(self) -> None:
        self.queries: dict[Any, tuple[Any, bool]] = {}  # line of the last query, is it a get?
        self.counts: dict[Any, int] = {}
        self.keys: dict[Any, set[Any]] = {}
        self.reads: dict[Any, int] = {}


class Finder:
    """Looks at each statement of a recorder.

    Args:
        strict: what is to be raised, and what is allowed.
    """

    def __init__(self) -> None:
        self.strict: Strict | None = None

    def __call__(self, draft: Draft, sent: Sent, event: StatementBegun) -> None:
        """Look at a statement that is about to be sent."""
        if sent.sql.kind != "SELECT":
            return
        seen = draft.seen
        if seen is None:
            seen = draft.seen = Seen()
        load = None if draft.executed is None else load_of(draft.executed)
        if load is not None and load.is_query:
            seen.queries[load.root] = (sent.line, load.is_get)
        if load is not None and load.what is not None:
            self._note_load(draft, sent, seen, load, key_of(event.parameters))
        elif event.parameters or draft.executed is None:
            self._note_read(draft, sent, seen, key_of(event.parameters))

    def _note_load(self, draft: Draft, sent: Sent, seen: Seen, load: Load, key: Any) -> None:
        place = (load.what, load.kind)
        times = seen.counts[place] = seen.counts.get(place, 0) + 1
        if load.is_get:  # of the same missing row again, it is no loop
            keys = seen.keys.setdefault(place, set())
            keys.add(key)
            times = len(keys)
        if times < MANY:
            return
        line, is_get = seen.queries.get(load.root, (None, False))
        line = sent.line if load.is_get or line is None else line
        told, at = lines.told(line), lines.told(sent.line)
        remedy = load.remedy(is_get=is_get)
        self.found(draft, Problem("N+1", str(load.what), times, told, at, remedy))

    def _note_read(self, draft: Draft, sent: Sent, seen: Seen, key: Any) -> None:
        place = (sent.sql.text, key, lines.told(sent.line))
        times = seen.reads[place] = seen.reads.get(place, 0) + 1
        if times >= MANY:
            at = lines.told(sent.line)
            remedy = "keep the result in a variable"
            self.found(draft, Problem("duplicate read", sent.sql.text, times, at, at, remedy))

    def found(self, draft: Draft, problem: Problem) -> None:
        """Note a problem, instead of what was said of it when it was smaller."""
        draft.problems = [each for each in draft.problems if not _is_same(each, problem)]
        draft.problems.append(problem)
        if self.strict is not None:
            self.strict.found(problem)


def _is_same(one: Problem, other: Problem) -> bool:
    return (one.kind, one.what) == (other.kind, other.what)


def key_of(parameters: Any) -> Any:
    """Return what is equal for equal values of a statement."""
    given: Any = parameters
    try:
        key: tuple[Any, ...] = tuple(given.values() if hasattr(given, "values") else given or ())
        hash(key)
    except TypeError:
        return repr(given)
    return key


def of_record(record: Record) -> list[Problem]:
    """Return the problems that only the end of a scope shows."""
    found = list(_held(record))
    if record.kind == "request":
        for each in record.transactions:
            if each.by_hand is not None and each.outcome == "committed":
                remedy = "leave it to the end of the request, or do that part in `db.atomic()`"
                where = each.by_hand or None
                found.append(Problem("commit by hand", "in a request", 1, where, where, remedy))
    return found


def _held(record: Record) -> list[Problem]:
    remedy = "give the connection back before: `db.release()`"
    return [
        Problem("idle in a transaction", f"{gap.seconds:.1f} s", 1, gap.after, gap.before, remedy)
        for gap in record.gaps
        if gap.seconds >= LONG
    ]


class Strict:
    """While it lasts, a problem is raised where it is found: for tests.

    Args:
        watch: it is on meanwhile.
        allow: what is allowed, and why: patterns of `A.bs`, of a statement, or of `file.py:12`.
    """

    def __init__(self, watch: Watch, allow: Mapping[str, str]) -> None:
        self._watch = watch
        self._allow = allow
        self._was_on = True
        self._around: Strict | None = None
        self._found: list[Problem] = []

    def found(self, problem: Problem) -> None:
        """Raise the problem, unless it is allowed."""
        names = [problem.what, problem.line or "", problem.at or ""]
        if not any(fnmatch(name, pattern) for pattern in self._allow for name in names if name):
            self._found.append(problem)
            raise ProblemFound(str(problem))

    def __enter__(self) -> Self:
        self._was_on = self._watch.is_on
        self._watch.start()
        finder = self._watch.finder
        self._around, finder.strict = finder.strict, self
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._watch.finder.strict = self._around
        if not self._was_on:
            self._watch.stop()
        if kind is None and self._found:  # somebody has swallowed it
            raise ProblemFound(str(self._found[0]))
