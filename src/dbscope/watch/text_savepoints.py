"""Savepoints by their statements: of those that are no blocks of ours nobody else tells.

That is text of the application, `SAVEPOINT a` say, and `begin_nested()` of a connection.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import TYPE_CHECKING

from dbscope.watch import lines, records
from dbscope.watch.drafts import Draft, Entered

if TYPE_CHECKING:
    from dbscope.unit.block import Block
    from dbscope.watch.parts import Sent

KINDS = frozenset({"SAVEPOINT", "RELEASE", "ROLLBACK"})
WORDS = re.compile(
    r"(SAVEPOINT|RELEASE(?:\s+SAVEPOINT)?|ROLLBACK(?:\s+(?:WORK|TRANSACTION))?\s+TO"
    r"(?:\s+SAVEPOINT)?)\s+([\"`\[]?)(\w+)",
    re.IGNORECASE,
)


def adopt(draft: Draft, block: Block) -> None:
    """Note that the savepoint whose statement has just been sent is that of a block."""
    entered = draft.savepoints[-1]
    entered.block, entered.name = block, None  # it ends with its block
    entered.line = getattr(block, "where", None)


def note(draft: Draft, sent: Sent, text: str) -> None:
    """Note what has become of savepoints by a statement that has succeeded.

    Args:
        draft: in which it was sent.
        sent: it.
        text: of it.
    """
    found = WORDS.search(text)
    if found is None:
        return
    verb, quoted, name = found[1].upper(), found[2], found[3]
    name = name if quoted else name.lower()
    if verb == "SAVEPOINT":
        _enter(draft, sent, name)
        return
    place = _place_of(draft, name)
    if place is None:
        return
    entered = draft.savepoints[place]
    if verb.startswith("ROLLBACK"):
        why = f"{verb} {name} at {lines.told(sent.line)}"
        _end(draft, place, records.ROLLED_BACK, why)
        draft.savepoint = entered.around
        _enter(draft, sent, name)  # it is still there, and what comes now may be kept
    else:
        _end(draft, place, "released", None)
        draft.savepoint = entered.around


def _enter(draft: Draft, sent: Sent, name: str) -> None:
    entered = Entered(None, perf_counter(), draft.savepoint, sent.line, name=name)
    draft.savepoint = len(draft.savepoints)
    draft.savepoints.append(entered)


def _place_of(draft: Draft, name: str) -> int | None:
    """Return the place of the innermost savepoint of this name that is open."""
    place = draft.savepoint
    while place is not None and draft.savepoints[place].name != name:
        place = draft.savepoints[place].around
    return place


def _end(draft: Draft, place: int, outcome: str, reason: str | None) -> None:
    """End a savepoint, with those that are open inside of it."""
    inside = draft.savepoint
    while inside is not None:
        entered = draft.savepoints[inside]
        if entered.block is None:
            entered.ended, entered.outcome, entered.reason = perf_counter(), outcome, reason
        inside = None if inside == place else entered.around
