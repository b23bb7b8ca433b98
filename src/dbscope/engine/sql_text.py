"""What a statement says that it will do, before it is sent.

What a text says, `backends/sql_text.py` tells.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause

from dbscope.backends.sql_text import ending, text_is_utility, text_writes
from dbscope.errors import ManualCommitForbidden, TransactionRequired
from dbscope.unit import callsite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbscope.unit.unit import Unit

NONE: dict[str, Any] = {}
QUICK = re.compile(r"[\s(]*+(?:(SELECT|PRAGMA)|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)


def writes(statement: Any, family: str = "") -> bool:
    """Tell whether a statement is going to write; text is taken to, unless it is seen to read.

    Args:
        statement: SQLAlchemy's.
        family: whose SQL a text is, see `Features.family`.
    """
    if getattr(statement, "is_dml", False):
        return True
    words = getattr(statement, "element", statement)  # of text().columns() and from_statement()
    if isinstance(words, TextClause):
        quick = QUICK.match(words.text)
        return text_writes(words.text, family) if quick is None else quick[1] is None
    return not getattr(statement, "is_select", True)


def is_utility(statement: Any, family: str) -> bool:
    """Tell whether a statement is a text that neither queries nor changes rows.

    Some of these cannot be in a transaction: VACUUM, CREATE INDEX CONCURRENTLY, CREATE DATABASE, a
    procedure that commits.
    """
    words = getattr(statement, "element", statement)
    if not isinstance(words, TextClause) or QUICK.match(words.text):
        return False
    return text_is_utility(words.text, family)


# -- what ends a transaction, or begins one ----------------------------------------------------


def check_text(unit: Unit, statement: TextClause, family: str = "") -> None:
    """Refuse text that would end the transaction without anybody's noticing.

    Raises:
        ManualCommitForbidden: instead of sending anything.
    """
    check_sql(unit, statement.text, family)


def check_sql(unit: Unit, sql: str, family: str) -> None:
    """Refuse the same as a string, by whichever way it comes."""
    if QUICK.match(sql) and ";" not in sql:
        return
    if found := ending(sql, family):
        raise ManualCommitForbidden(
            f"{found} was to be sent as text in {unit.scope}, at {callsite.of_call()}; "
            "outside of `atomic` there are `session.commit()` and `rollback()`."
        )


def is_in_pieces(statement: Any, given: Mapping[str, Any]) -> bool:
    """Tell whether a result is to be read in pieces, which a cursor at the server gives.

    Args:
        statement: it may have execution options of its own.
        given: those of the call.
    """
    for options in (given, getattr(statement, "_execution_options", NONE)):
        if options and (options.get("stream_results") or options.get("yield_per")):
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
