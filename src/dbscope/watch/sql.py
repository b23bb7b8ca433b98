"""What a statement is: its kind, its table, and its text without values."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

LONGEST = 2000  # characters of a statement that are kept
PLACEHOLDERS = r"%\(\w+\)s|%s|\$\d+(?:::[A-Za-z ]+)?|(?<![:\w]):\w+|\?"
NUMBERS = r"(?<![\w.\"])-?(?:0[xX][\da-fA-F]+|\d*\.?\d[\d_]*(?:[eE][+-]?\d+)?)(?!\w)"
COMMENTS = r"--[^\n]*+|/\*.*?(?:\*/|\Z)"
NAMES = r'`[^`]*+(?:`|\Z)|"[^"]*+(?:"|\Z)'
# A text ends where it does for the server; one that was cut off never does.
TEXTS = r"(?:\b(?:[bBnNxX]|[uU]&))?'(?:[^']|'')*+(?:'|\Z)"


class Literals:
    """How values are written in the text of a statement.

    Args:
        texts: the pattern of those that are quoted.
        names: that of what is quoted and no value, though there may be what looks like one in it.
    """

    def __init__(self, texts: str, names: str) -> None:
        whole = f"(?P<kept>{COMMENTS}|{names})|{texts}|{PLACEHOLDERS}|{NUMBERS}"
        self.pattern = re.compile(whole, re.DOTALL)

    def taken_out(self, text: str) -> str:
        """Return the text of a statement with ? for each value."""
        return self.pattern.sub(lambda found: found["kept"] or "?", text)


STANDARD = Literals(TEXTS, NAMES)
LISTS = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
ROWS = re.compile(r"(\(\?…?\))(?:\s*,\s*\(\?…?\))+")
NAME = r"((?:[\"`\[]?\w+[\"`\]]?\.)?[\"`\[]?\w+[\"`\]]?)"
TABLES = {
    "INSERT": re.compile(rf"INTO\s+{NAME}", re.IGNORECASE),
    "REPLACE": re.compile(rf"INTO\s+{NAME}", re.IGNORECASE),
    "UPDATE": re.compile(rf"UPDATE\s+(?:OR\s+\w+\s+|ONLY\s+)?{NAME}", re.IGNORECASE),
    "DELETE": re.compile(rf"FROM\s+(?:ONLY\s+)?{NAME}", re.IGNORECASE),
    "SELECT": re.compile(rf"FROM\s+{NAME}", re.IGNORECASE),
}
WRITES = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "MERGE"})
BEFORE = re.compile(r"^(?:\s+|--[^\n]*\n|/\*.*?\*/|\()*", re.DOTALL)
WORD = re.compile(r"\w+")
IN_WITH = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)


class Sql(NamedTuple):
    """A statement, without its values."""

    kind: str  # SELECT, INSERT, …
    table: str | None
    text: str  # with ? for each value: the same for all that differ only in those

    @property
    def writes(self) -> bool:
        """Tell whether it is one that stores something."""
        return self.kind in WRITES


@lru_cache(2048)
def parse(text: str, literals: Literals = STANDARD) -> Sql:
    """Return what a statement is; by its first words, and cheap when it was seen before.

    Args:
        text: of the statement.
        literals: how its database writes values.
    """
    text = literals.taken_out(text[: LONGEST * 2])  # a thousand rows may follow
    body = text[BEFORE.match(text).end() :]  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    word = WORD.match(body)
    kind = word[0].upper() if word else "?"
    if kind == "WITH":
        inside = IN_WITH.search(body)
        kind = inside[1].upper() if inside else "SELECT"
    table = TABLES[kind].search(body) if kind in TABLES else None
    return Sql(kind, None if table is None else table[1].strip('"`[]'), shortened(text))


def shortened(text: str) -> str:
    """Return the text of a statement on one line, with lists of values in short."""
    found = " ".join(text.split())
    found = ROWS.sub(r"\1…", LISTS.sub("(?…)", found))
    return found[:LONGEST]
