"""A revision does not end its own transaction: what would is refused, and not forgotten."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial, wraps
from typing import Any

from sqlalchemy import Connection

from dbscope import ManualCommitForbidden
from dbscope.backends.listening import heard

RULE = (
    "a revision is one transaction, which ends with it. To undo a part: "
    "`with session().begin_nested():`; to write outside of it: op.get_context().autocommit_block()"
)
COMMENTS = r"(?:\s+|--[^\n]*\n|/\*.*?\*/)*"
ENDS = re.compile(
    rf"{COMMENTS}(COMMIT|END|ABORT|BEGIN|START\s+TRANSACTION|PREPARE\s+TRANSACTION|ROLLBACK)\b"
    r"(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b)(?!\s+NOT\b)",
    re.IGNORECASE | re.DOTALL,
)
# A body of a function or a trigger, and what may be in quotes, are not read.
HAS_BODY = re.compile(
    rf"{COMMENTS}(CREATE|ALTER|DO|COMMENT)\b|.*['\"$`]", re.IGNORECASE | re.DOTALL
)


class Ends:
    """Watches a connection while the functions of revisions run."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_watching = False
        self.refused: ManualCommitForbidden | None = None

    def listening(self) -> AbstractContextManager[None]:
        """Listen to the connection, and leave it as it was."""
        return heard(
            self._connection,
            commit=partial(self._heard, "commit()"),
            rollback=partial(self._heard, "rollback()"),
            before_cursor_execute=self._before,
        )

    def watched(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return the function of a revision, in which nothing may end the transaction."""

        @wraps(function)  # Alembic logs its name
        def watched(**given: Any) -> None:
            self.refused = None
            with self._watching(True):
                function(**given)
            self.check()

        return watched

    def allowed(self) -> Any:
        """Let what is inside of the block end it: Alembic's own `autocommit_block`."""
        return self._watching(False)

    def check(self) -> None:
        """Raise what was refused, if the revision has caught it: its work is not whole."""
        if self.refused is not None:
            raise self.refused

    @contextmanager
    def _watching(self, wanted: bool) -> Generator[None, None, None]:
        before, self._is_watching = self._is_watching, wanted
        try:
            yield
        finally:
            self._is_watching = before

    def _heard(self, what: str, _connection: Connection) -> None:
        self._refuse(what)

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self._is_watching and (found := ending(statement)):
            self._refuse(found)

    def _refuse(self, what: str) -> None:
        if self._is_watching:
            error = ManualCommitForbidden(f"{what} inside a revision: {RULE}.")
            self.refused = self.refused or error
            raise error


def ending(sql: str) -> str | None:
    """Return the word by which a text ends or begins a transaction, if it does."""
    pieces = [sql] if HAS_BODY.match(sql) else sql.split(";")
    for piece in pieces:
        if found := ENDS.match(piece):
            return found[1].upper()
    return None
