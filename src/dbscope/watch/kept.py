"""What a recorder knows: the scopes that go on, and the records of those that have ended."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from dbscope.watch.dispatch import Remembering
from dbscope.watch.drafts import Draft
from dbscope.watch.problems import Finder

if TYPE_CHECKING:
    from dbscope.unit.current import Scope
    from dbscope.unit.unit import Unit
    from dbscope.watch.records import Record

SOON = 64  # records, until which somebody says that the work is done again


class Drafts(dict["Unit", Draft]):
    """What is known so far of units that are not over; of a new one that is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count(1)

    def __missing__(self, unit: Unit) -> Draft:
        draft = self[unit] = Draft(unit, next(self._numbers), kind_of(unit))
        return draft


class Kept(Remembering):
    """Drafts and records.

    Args:
        keep: how many records.
        values: keep the parameters of statements, shortened; else none of them is.
    """

    def __init__(self, keep: int, *, values: bool) -> None:
        self.ring: deque[Record] = deque(maxlen=keep)
        self.values = values
        self.drafts = Drafts()
        self.unanswered: dict[Scope, list[Draft]] = {}
        self.wanted: dict[Any, tuple[Scope | None, Unit | None, str]] = {}  # advisory locks
        self.locks: dict[Any, tuple[str, str]] = {}  # advisory ones that are held: key, by whom
        self.finder = Finder()
        self.ended: deque[tuple[int, Record]] = deque(maxlen=SOON)  # by an error, in which block

    def start_anew(self) -> None:
        """Forget what the parent did."""
        for each in (self.ring, self.drafts, self.unanswered, self.wanted, self.locks, self.ended):
            each.clear()

    def all_drafts(self) -> list[Draft]:
        """Return all that are not over, or not answered yet."""
        return [*self.drafts.values(), *chain.from_iterable(self.unanswered.values())]

    def note_again(self, block: object) -> None:
        """Note that what this block did is done again: its scope has ended just before."""
        for root, record in self.ended:
            if root == id(block):
                for place, each in enumerate(self.ring):
                    if each is record:
                        self.ring[place] = replace(record, again=True)
                        break

    def holders(self, engine: Any) -> list[Draft]:
        """Return who holds a connection now, who has it for longest first."""
        held = [
            draft
            for draft in tuple(self.drafts.values())
            if draft.held_since is not None
            and (connection := draft.unit.connection) is not None
            and (engine is None or connection.engine.pool is engine.pool)
        ]
        return sorted(held, key=lambda draft: draft.held_since or 0.0)


def kind_of(unit: Unit) -> str:
    """Return what the scope of a unit is: of a request, its tail is another piece of work."""
    scope = unit.scope
    if scope.is_hook:
        return "hook"
    if scope.kind == "request" and getattr(scope, "started", False):
        return "tail"
    if scope.kind == "scope" and scope.parent is None and unit.source.has_sandbox():
        return "test"
    return scope.kind
