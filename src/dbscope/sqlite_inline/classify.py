"""What a statement may do to the event loop: known from its words, or from its program.

SQLite compiles a statement to a program for its virtual machine. One that goes through no table
and jumps back nowhere takes every step once, so it cannot take long, whatever is stored
(https://sqlite.org/opcode.html).
"""

from __future__ import annotations

import sqlite3
from enum import Enum
from itertools import count, dropwhile, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from dbscope.sqlite_inline.pysqlite import ask
from dbscope.sqlite_inline.tokens import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEPT = 2_000  # statements that are remembered
MANY = 200  # sets of parameters: from there on `executemany` is run in a thread
LARGE = 64 * 1024  # bytes of one parameter: from there on a write is run in a thread
PARAMETERS = 2_000  # of one statement, likewise


class Kind(Enum):
    """How a statement is run."""

    READ = "on the loop, and once more in a thread if it takes too long"
    SHORT = "a write that cannot take long: on the loop"
    LONG = "a write that may take long: in a thread"
    CONTROL = "on the loop: it costs nothing"
    SCHEMA = "changes the tables: in a thread"
    OTHER = "not part of a transaction: in a thread"
    BEGIN = "begins a transaction"
    COMMIT = "ends a transaction"
    ROLLBACK = "ends a transaction by undoing it"


WRITES = frozenset({Kind.SHORT, Kind.LONG, Kind.SCHEMA})
TRANSACTIONAL = WRITES | {Kind.READ, Kind.CONTROL}
ENDS = frozenset({Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK})

BY_HEAD = {
    "SELECT": Kind.READ,
    "VALUES": Kind.READ,
    "EXPLAIN": Kind.READ,
    "SAVEPOINT": Kind.CONTROL,
    "RELEASE": Kind.CONTROL,
    "BEGIN": Kind.BEGIN,
    "COMMIT": Kind.COMMIT,
    "END": Kind.COMMIT,
    "PRAGMA": Kind.OTHER,
    "ATTACH": Kind.OTHER,
    "DETACH": Kind.OTHER,
    "VACUUM": Kind.OTHER,
    "REINDEX": Kind.LONG,
    "ANALYZE": Kind.LONG,
}
BY_PROGRAM = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"})
FLAGS = frozenset({"QUERY_ONLY", "FOREIGN_KEYS", "DEFER_FOREIGN_KEYS", "READ_UNCOMMITTED"})

# Cursors of what the statement itself has put together, out of its parameters.
OWN = frozenset({"OpenEphemeral", "OpenPseudo", "SorterOpen"})
LOOPS = frozenset({"Next", "Prev", "SorterNext"})
ALWAYS_LONG = frozenset({"VNext", "VUpdate", "VFilter", "Clear", "Count", "Destroy"})


questions = count(1)


class Step(NamedTuple):
    """One step of a program, as EXPLAIN shows it."""

    address: int
    opcode: str
    p1: int
    p2: int


class Statements:
    """What is known about the statements of one engine."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}
        self.slow: set[str] = set()  # reads that were too long for the loop

    def kind_of(self, connection: sqlite3.Connection, sql: str, parameters: Any) -> Kind:
        """Return how this statement is run.

        Args:
            connection: knows the tables.
            sql: the statement.
            parameters: of it; the first of several.
        """
        kind = self._kinds.get(sql)
        if kind is None:
            kind = by_words(sql)
            if kind is None:
                kind = by_program(connection, sql, parameters)
                if kind is None:  # it is wrong: let it say so
                    return Kind.LONG
            self._remember(sql, kind)
        return kind

    def _remember(self, sql: str, kind: Kind) -> None:
        if len(self._kinds) >= KEPT:
            self.forget()
        self._kinds[sql] = kind

    def forget(self) -> None:
        """Look again: the tables have changed."""
        self._kinds.clear()
        self.slow.clear()


def by_words(sql: str) -> Kind | None:
    """Return the kind of a statement that need not be compiled to know it; else None."""
    parts = dropwhile(";".__eq__, words(sql))  # empty statements come before it
    head, second, third = (*islice(parts, 3), "", "", "")[:3]
    if head in BY_PROGRAM:
        return None
    if head == "ROLLBACK":
        target = third if second == "TRANSACTION" else second
        return Kind.CONTROL if target == "TO" else Kind.ROLLBACK
    if head == "PRAGMA" and second in FLAGS:
        return Kind.CONTROL
    return BY_HEAD.get(head, Kind.SCHEMA)  # CREATE, ALTER, DROP, and what we do not know


def by_program(connection: sqlite3.Connection, sql: str, parameters: Any) -> Kind | None:
    """Return the kind of a statement by what SQLite would do; None if it refuses it."""
    # Never the same text: `sqlite3` keeps statements, and SQLite shows the program of a kept one as
    # it was made, with pointers to tables that may have gone since (seen: a crash, in 3.40).
    question = f"EXPLAIN /* {next(questions)} */ {sql}"
    try:
        rows = ask(connection, question, parameters)
    except (sqlite3.Error, sqlite3.Warning):
        return None
    program = [Step(*row[:4]) for row in rows]
    if not any(step.opcode == "Transaction" and step.p2 for step in program):
        return Kind.READ
    return Kind.LONG if may_loop(program) else Kind.SHORT


def may_loop(program: Sequence[Step]) -> bool:
    """Tell whether a program goes through rows, so that their number decides how long it takes.

    Examples:
        >>> may_loop([Step(0, "OpenRead", 1, 0), Step(1, "Next", 1, 1)])
        True
        >>> may_loop([Step(0, "OpenEphemeral", 1, 0), Step(1, "Next", 1, 1)])
        False
    """
    codes = {step.opcode for step in program}
    if not codes.isdisjoint(ALWAYS_LONG):
        return True
    # The program of a trigger numbers its cursors and steps anew.
    has_trigger = "Program" in codes
    own = {step.p1 for step in program if step.opcode in OWN and not has_trigger}
    return any(
        (step.opcode in LOOPS and step.p1 not in own)
        # The rows of VALUES come one by one from a part that yields them.
        or (jumps_back(step) and (has_trigger or program[step.p2].opcode != "Yield"))
        for step in usual(program)
    )


def usual(program: Sequence[Step]) -> Iterator[Step]:
    """Go through a program without what is left out unless foreign keys are violated already."""
    end = 0
    for number, step in enumerate(program):
        if step.opcode == "FkIfZero":
            end = max(end, number + step.p2 - step.address)
        if number >= end:
            yield step


def jumps_back(step: Step) -> bool:
    """Tell whether a step begins a loop. The last one of each program goes back to 1, once."""
    return step.opcode == "Goto" and 1 < step.p2 < step.address


def is_small(parameters: Any, many: bool) -> bool:
    """Tell whether parameters are few and short."""
    if len(parameters) >= (MANY if many else PARAMETERS):
        return False
    return all(map(is_short, parameters if many else (parameters,)))


def is_short(parameters: Any) -> bool:
    """Tell whether there is no large one among these parameters."""
    values: Any = parameters.values() if hasattr(parameters, "values") else parameters
    return not any(isinstance(each, str | bytes) and len(each) >= LARGE for each in values)
