"""The words of a statement, read once from the left to the right.

A regular expression for all of a statement would take for ever on what somebody has written for
that. What is a comment, and what is quoted, is different in each database.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTED = "'"
REST = r"(?P<word>[^\W\d][\w$]*+)|(?P<other>.)"
# https://sqlite.org/lang_comment.html, https://sqlite.org/lang_keywords.html
SQLITE = re.compile(
    r"(?P<skip>[\s\ufeff]++|--[^\n]*+|/\*.*?(?:\*/|\Z))"
    rf"""|(?P<quoted>'[^']*+(?:'|\Z)|"[^"]*+(?:"|\Z)|`[^`]*+(?:`|\Z)|\[[^\]]*+(?:\]|\Z))|{REST}""",
    re.DOTALL,
)
COMMENT = re.compile(r"/\*|\*/")


def words(sql: str, pattern: re.Pattern[str] = SQLITE) -> Iterator[str]:
    """Give the words of a statement in capitals, and its signs; what is quoted is one sign.

    Args:
        sql: the statement.
        pattern: of one piece of it, with the groups `word`, `skip`, `quoted`, `other` and, for a
            comment that may have comments in it, `nested`.
    """
    position = 0
    while found := pattern.match(sql, position):
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
