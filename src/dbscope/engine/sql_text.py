"""What a statement says that it will do, before it is sent.

Read word by word and once from the left to the right, since a regular expression for all of it
would take for ever on what somebody has written for that. What is a comment, and what is quoted,
is different in each database.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from sqlalchemy import TextClause

from dbscope.errors import ManualCommitForbidden, TransactionRequired
from dbscope.unit import callsite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbscope.unit.unit import Unit

NONE: dict[str, Any] = {}
# What cannot write: queries, questions about the schema, and cursors, whose query is one.
READING = frozenset(
    [
        "SELECT",
        "VALUES",
        "TABLE",
        "SHOW",
        "PRAGMA",
        "DECLARE",
        "FETCH",
        "MOVE",
        "CLOSE",
    ]
)
WRITING = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"})
OF_EXPLAIN = frozenset(
    [
        "ANALYZE",
        "ANALYSE",
        "VERBOSE",
        "QUERY",
        "PLAN",
        "EXTENDED",
        "PARTITIONS",
        "FORMAT",
        "TREE",
        "JSON",
        "TRADITIONAL",
        "=",
    ]
)
EXPLAINS = frozenset({"EXPLAIN", "DESCRIBE", "DESC"})
RUNS = frozenset({"ANALYZE", "ANALYSE"})
COMPOUND = frozenset({"CREATE", "ALTER", "DECLARE"})  # may have a body with ends of its own
BODY = frozenset({"BEGIN", "IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR"})  # which begins so
WITHOUT_BODY = frozenset({"TABLE", "INDEX", "VIEW", "SCHEMA", "SEQUENCE", "TYPE", "ROLE", "USER"})
QUOTED = "'"
WORD = r"(?P<word>[^\W\d][\w$]*+)"
REST = rf"{WORD}|(?P<other>.)"
BACKSLASHED = r"""'(?:[^'\\]|\\.)*+(?:'|\Z)"""

# PostgreSQL, "4.1. Lexical Structure": comments nest, and $tag$ quotes.
POSTGRESQL = (
    r"(?P<skip>\s++|--[^\n]*+)|(?P<nested>/\*)"
    rf"""|(?P<quoted>"[^"]*+(?:"|\Z)|[eE]{BACKSLASHED}|'[^']*+(?:'|\Z)"""
    rf"|\$(?P<tag>(?:[^\W\d]\w*+)?)\$.*?(?:\$(?P=tag)\$|\Z))|{REST}"
)
# https://mariadb.com/kb/en/comment-syntax/: what is in /*! */ is executed.
MYSQL = (
    r"(?P<skip>\s++|#[^\n]*+|--(?=\s|\Z)[^\n]*+|/\*M?!\d*+|\*/|/\*.*?(?:\*/|\Z))"
    rf"""|(?P<quoted>{BACKSLASHED}|"(?:[^"\\]|\\.)*+(?:"|\Z)|`[^`]*+(?:`|\Z))|{REST}"""
)
# https://sqlite.org/lang_comment.html, https://sqlite.org/lang_keywords.html
STANDARD = (
    r"(?P<skip>[\s\ufeff]++|--[^\n]*+|/\*.*?(?:\*/|\Z))"
    rf"""|(?P<quoted>'[^']*+(?:'|\Z)|"[^"]*+(?:"|\Z)|`[^`]*+(?:`|\Z)|\[[^\]]*+(?:\]|\Z))|{REST}"""
)
TOKENS = {
    family: re.compile(pattern, re.DOTALL)
    for family, pattern in {"postgresql": POSTGRESQL, "mysql": MYSQL, "sqlite": STANDARD}.items()
}
COMMENT = re.compile(r"/\*|\*/")
QUICK = re.compile(r"[\s(]*+(?:(SELECT|PRAGMA)|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)


def writes(statement: Any, family: str = "sqlite") -> bool:
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
    procedure that commits (PostgreSQL, "VACUUM", "CREATE INDEX", "CALL"; SQLite, "ATTACH").
    """
    words = getattr(statement, "element", statement)
    if not isinstance(words, TextClause) or QUICK.match(words.text):
        return False
    return text_is_utility(words.text, family)


@lru_cache(maxsize=256)
def text_is_utility(sql: str, family: str) -> bool:
    """Tell the same of a text; of several statements at once none can commit by itself."""
    found = tokens(sql, family)
    verb, _ = _verb(found)
    if verb in READING | WRITING | EXPLAINS | {"WITH", "SET", ""}:
        return False
    rest = list(found)
    return ";" not in rest[:-1] or verb in COMPOUND


@lru_cache(maxsize=256)
def text_writes(sql: str, family: str) -> bool:
    """Tell whether a text is going to write."""
    found = tokens(sql, family)
    verb, depth = _verb(found)
    if verb in EXPLAINS or (verb == "ANALYZE" and family == "mysql"):
        explained = _explained(found, runs=verb == "ANALYZE")
        if explained is None:
            return False
        verb, depth = explained, 0
    if verb == "WITH":
        return _with_writes(found, depth)
    return verb not in READING


def _verb(found: Iterator[str]) -> tuple[str, int]:
    """Return the first word, and how many parentheses were opened before it."""
    depth = 0
    for part in found:
        if part != "(":
            return part, depth
        depth += 1
    return "", depth


def _explained(found: Iterator[str], *, runs: bool) -> str | None:
    """Return the first word of what EXPLAIN ANALYZE is going to run; None: it only explains."""
    depth = 0
    for part in found:
        depth += (part == "(") - (part == ")")
        runs = runs or part in RUNS
        if depth == 0 and part != ")" and part not in OF_EXPLAIN:
            return part if runs else None
    return None


def _with_writes(found: Iterator[str], outside: int) -> bool:
    """Tell whether one of the queries of WITH writes, or the statement that they are for.

    PostgreSQL allows both ("7.8.4. Data-Modifying Statements in WITH"). A column may have the
    name of a verb, so a verb is only where a statement can begin.
    """
    depth, is_main, before = outside, False, ""
    verb = ""  # that may be one: what follows tells
    for part in chain(found, [""]):
        if verb and (part == QUOTED or (part.isidentifier() and part != "AS")):
            return True
        verb = ""
        begins = before == "(" or (depth == outside and not is_main)
        if part in WRITING and begins:
            verb = part
        elif depth == outside and part in {"SELECT", "VALUES", "TABLE"}:
            is_main = True
        depth += (part == "(") - (part == ")")
        before = part
    return False


def tokens(sql: str, family: str) -> Iterator[str]:
    """Give the words of a statement in capitals, and its signs; what is quoted is one sign."""
    match = TOKENS.get(family, TOKENS["sqlite"]).match
    position = 0
    while found := match(sql, position):
        position = found.end()
        if found.lastgroup == "word":
            yield found[0].upper()
        elif found.lastgroup == "nested":
            position = _after_comment(sql, position)
        elif found.lastgroup != "skip":
            yield found[0] if found.lastgroup == "other" else QUOTED


def _after_comment(sql: str, position: int) -> int:
    """Return the position after a comment, which may have comments in it."""
    depth = 1
    for found in COMMENT.finditer(sql, position):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return len(sql)


# -- what ends a transaction, or begins one ----------------------------------------------------


def check_text(unit: Unit, statement: TextClause, family: str = "sqlite") -> None:
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


def ending(sql: str, family: str) -> str | None:
    """Return what in a text ends a transaction, or begins one; None if nothing does.

    Drivers that send a text without parameters as it is send several statements, too.
    """
    words: list[str] = []
    for part in tokens(sql, family):
        if part != ";":
            words.append(part)
            continue
        if _is_compound(words):
            return None
        if found := _ends(words):
            return found
        words = []
    return _ends(words)


def _is_compound(words: list[str]) -> bool:
    """Tell whether what comes behind a semicolon belongs to the body of a function or a trigger."""
    if words[:2] == ["BEGIN", "NOT"]:
        return True
    if not words or words[0] not in COMPOUND or not WITHOUT_BODY.isdisjoint(words[1:4]):
        return False
    return words[0] == "DECLARE" or not BODY.isdisjoint(words)


def _ends(words: list[str]) -> str | None:
    first, second, third = (*words[:3], "", "", "")[:3]
    if first in {"COMMIT", "END", "ABORT"}:
        return first
    if first == "ROLLBACK":
        target = third if second in {"WORK", "TRANSACTION"} else second
        return None if target == "TO" else first
    if first == "BEGIN":
        return None if second == "NOT" else first
    if first in {"START", "PREPARE"} and second == "TRANSACTION":
        return f"{first} {second}"
    return "SET AUTOCOMMIT" if first == "SET" and _sets_autocommit(words) else None


def _sets_autocommit(words: list[str]) -> bool:
    for index, word in enumerate(words):
        is_variable_of_user = words[index - 1] == "@" and words[index - 2] != "@"
        if word == "AUTOCOMMIT" and not is_variable_of_user:
            return words[index + 1 : index + 2] in (["="], [":"]) or index == 1
    return False
