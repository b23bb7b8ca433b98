"""How databases write values in the text of a statement, beside what the standard says."""

from __future__ import annotations

from dbscope.watch.sql import NAMES, STANDARD, TEXTS, Literals

ESCAPED = r"'(?:[^'\\]|''|\\.)*+(?:'|\Z)"  # by backslashes, too
DOUBLE = r'"(?:[^"\\]|""|\\.)*+(?:"|\Z)'  # no name, unless the server was told so
DOLLARS = r"\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)"
LITERALS = {
    "postgresql": Literals(rf"\b[eE]{ESCAPED}|{TEXTS}|{DOLLARS}", NAMES),
    "mysql": Literals(rf"(?:\b[bBnNxX])?{ESCAPED}|{DOUBLE}", r"`[^`]*+(?:`|\Z)"),
}


def literals_of(family: str) -> Literals:
    """Return how values are written.

    Args:
        family: whose SQL it is, see `Features.family`.
    """
    return LITERALS.get(family, STANDARD)
