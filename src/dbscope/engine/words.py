"""What a statement says that it will do, before it is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause

from dbscope.errors import ManualCommitForbidden, TransactionRequired

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbscope.unit.unit import Unit

NONE: dict[str, Any] = {}
READING = re.compile(r"[\s(]*(?:SELECT|PRAGMA|EXPLAIN)", re.IGNORECASE)
# What ends a transaction, or begins one, but for ROLLBACK TO a savepoint.
ENDING = re.compile(
    r"(?:\s|--.*\n|/\*[\s\S]*?\*/)*"
    r"(COMMIT|END|ABORT|ROLLBACK(?!(?:\s+(?:WORK|TRANSACTION))?\s+TO\b)|BEGIN(?!\s+NOT\b)|START\s+TRANSACTION"
    r"|PREPARE\s+TRANSACTION|SET\s+(?:SESSION\s+|@@(?:SESSION\.)?)?AUTOCOMMIT)\b",
    re.IGNORECASE,
)


def writes(statement: Any) -> bool:
    """Tell whether a statement is going to write; text is taken to, unless it is a SELECT."""
    if getattr(statement, "is_dml", False):
        return True
    words = getattr(statement, "element", statement)  # of text().columns() and from_statement()
    if isinstance(words, TextClause):
        return READING.match(words.text) is None
    return not getattr(statement, "is_select", True)


def check_text(unit: Unit, statement: TextClause) -> None:
    """Refuse text that would end the transaction without anybody's noticing.

    Raises:
        ManualCommitForbidden: instead of sending anything.
    """
    if found := ENDING.match(statement.text):
        raise ManualCommitForbidden(
            f"{found[1].upper()} was to be sent as text in {unit.scope}; "
            "outside of `atomic` there are `session.commit()` and `rollback()`."
        )


def is_in_pieces(statement: Any, given: Mapping[str, Any]) -> bool:
    """Tell whether a result is to be read in pieces, which a cursor at the server gives.

    Args:
        statement: it may have execution options of its own.
        given: those of the call.
    """
    for options in (given, getattr(statement, "_execution_options", NONE)):
        if options.get("stream_results") or options.get("yield_per"):
            return True
    return False


def check_pieces(unit: Unit) -> None:
    """Refuse a result in pieces where its transaction ends with the statement.

    Raises:
        TransactionRequired: instead of sending anything.
    """
    if not unit.is_in_transaction:
        raise TransactionRequired(
            f"A result is to be read in pieces (`stream()`, `yield_per`, `stream_results`) in "
            f"{unit.scope}, which autocommits:"
        )
