"""What a revision that failed has left, and how to go on."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection

from dbscope.backends.listening import heard
from dbscope.backends.registry import migrating_of

NAME = r'(?:IF\s+(?:NOT\s+)?EXISTS\s+)?((?:["`\[]?[\w$]+["`\]]?\.)*["`\[]?[\w$]+["`\]]?)'
DDL = re.compile(
    r"(?:\s+|--[^\n]*\n|/\*.*?\*/)*(CREATE|ALTER|DROP|RENAME|TRUNCATE|REINDEX)\s+"
    r"(?:(?:OR\s+REPLACE|UNIQUE|TEMPORARY|TEMP|UNLOGGED|MATERIALIZED)\s+)*"
    rf"(\w+)\s+(?:CONCURRENTLY\s+)?{NAME}",
    re.IGNORECASE | re.DOTALL,
)
EXISTS = re.compile(
    r"already exists|duplicate (column|key) name|can't drop|not exist", re.IGNORECASE
)


class Traces:
    """The statements of one revision that changed tables, and which of them stay."""

    def __init__(self, connection: Connection, *, can_undo: bool) -> None:
        self._connection = connection
        self._can_undo = can_undo
        self.begin()

    def begin(self) -> None:
        """Begin with the next revision."""
        self._done: list[str] = []
        self._staying: list[str] = []
        self._tried: set[str] = set()
        self._in_autocommit = self.left_early = False

    def listening(self) -> AbstractContextManager[None]:
        """Listen to the connection, and leave it as it was."""
        return heard(
            self._connection,
            before_cursor_execute=self._before,
            after_cursor_execute=self._after,
        )

    @contextmanager
    def autocommit(self) -> Generator[None, None, None]:
        """Be inside of an `autocommit_block`: what was done before it is committed."""
        self._staying += self._done
        self._done = []
        self._in_autocommit = self.left_early = True
        try:
            yield
        finally:
            self._in_autocommit = False

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if found := DDL.match(statement):
            self._tried.add(_bare(found[3]))

    def _after(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if found := DDL.match(statement):
            stays = self._in_autocommit or not self._can_undo
            said = f"{found[1]} {found[2]} {_bare(found[3])}".replace("INDEX CONCURRENTLY", "INDEX")
            (self._staying if stays else self._done).append(said)

    def invalid(self) -> list[str]:
        """Return the indexes of this revision that were begun outside of it, and not finished."""
        if not self.left_early:
            return []
        migrating = migrating_of(self._connection.dialect)
        return sorted(self._tried & migrating.invalid_indexes(self._connection))

    def describe(self, revision: str, said: str) -> str:
        """Return what stays of a revision that failed, and what to do about it."""
        words = ""
        invalid = self.invalid()
        staying = [each for each in self._staying if each.split()[-1] not in invalid]
        if staying:
            words += f" It has done, and this stays: {', '.join(staying)}."
        if self.left_early:
            words += " Rows that it wrote before or in its autocommit_block stay, too."
        elif not self._can_undo:
            name = self._connection.dialect.name
            words += f" {name} cannot roll back DDL, nor rows written before it."
        for name in invalid:
            words += f" The index {name} is invalid: DROP INDEX CONCURRENTLY {name}."
        if staying or invalid or (EXISTS.search(said) and (self.left_early or not self._can_undo)):
            words += (
                " To go on: undo by hand what is there of this revision, or let it skip that "
                "(IF NOT EXISTS, if_not_exists=True), and start again; or complete it by hand, "
                f"and `dbscope stamp {revision}`."
            )
        return words


def _bare(name: str) -> str:
    return name.rsplit(".", maxsplit=1)[-1].strip('"`[]')
