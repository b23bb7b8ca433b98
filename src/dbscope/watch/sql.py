"""What a statement is: its kind, its table, and its text without values."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 2000  # characters of a statement that are kept
KNOWN = 2048  # statements that are remembered
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
    "MERGE": re.compile(rf"INTO\s+{NAME}", re.IGNORECASE),
    "TRUNCATE": re.compile(rf"TRUNCATE\s+(?:TABLE\s+)?(?:ONLY\s+)?{NAME}", re.IGNORECASE),
    "UPDATE": re.compile(rf"UPDATE\s+(?:OR\s+\w+\s+|ONLY\s+)?{NAME}", re.IGNORECASE),
    "DELETE": re.compile(rf"FROM\s+(?:ONLY\s+)?{NAME}", re.IGNORECASE),
    "SELECT": re.compile(rf"FROM\s+{NAME}", re.IGNORECASE),
}
QUOTES = '"`[]'
WRITES = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "MERGE"})
# They have no rows, and are told by what they are about: `TABLE orders`.
DEFINES = frozenset({"CREATE", "ALTER", "DROP", "TRUNCATE"})
DEFINED = re.compile(
    r"\w+\s+(?:(?:OR\s+REPLACE|UNIQUE|UNLOGGED|MATERIALIZED)\s+)*("
    r"TABLE|INDEX|VIEW|SEQUENCE|SCHEMA|TYPE|FUNCTION|PROCEDURE|TRIGGER|EXTENSION|DATABASE)\s+"
    rf"(?:CONCURRENTLY\s+)?(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?:ONLY\s+)?{NAME}",
    re.IGNORECASE,
)
BEFORE = re.compile(r"^(?:\s+|--[^\n]*\n|/\*.*?\*/|\()*", re.DOTALL)
WORD = re.compile(r"\w+")
# It begins a query of WITH, or what follows them; `FOR UPDATE` does neither.
IN_WITH = re.compile(
    rf"[()](?:\s+|{COMMENTS})*(INSERT|UPDATE|DELETE|MERGE|REPLACE)\b", re.IGNORECASE
)
FOR_ONE = re.compile(r"SET\s+STATEMENT\b.*?\bFOR\s+", re.IGNORECASE | re.DOTALL)  # MariaDB


@dataclass(frozen=True, slots=True)
class Sql:
    """A statement, without its values."""

    kind: str  # SELECT, INSERT, …
    table: str | None
    text: str  # with ? for each value: the same for all that differ only in those
    writes: bool  # it is one that stores something
    defines: bool  # … the schema, or it empties a table; what is temporary has no name


def parse(text: str, literals: Literals = STANDARD) -> Sql:
    """Return what a statement is; by its first words. Who asks often has it from `Known`.

    Args:
        text: of the statement.
        literals: how its database writes values.
    """
    text = literals.taken_out(text[: LONGEST * 2])  # a thousand rows may follow
    body = text[BEFORE.match(text).end() :]  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    if (options := FOR_ONE.match(body)) is not None:
        body = body[options.end() :]
    word = WORD.match(body)
    kind = word[0].upper() if word else "?"
    if kind == "WITH":
        inside = IN_WITH.search(body)
        kind = inside[1].upper() if inside else "SELECT"
        body = body[inside.start(1) :] if inside else body
    table = _table_of(kind, body)
    defines = kind in DEFINES and table is not None
    return Sql(kind, table, shortened(text), kind in WRITES or defines, defines)


class Known(dict[str, Sql]):
    """What statements are, by their texts.

    Args:
        literals: see `parse`.
    """

    def __init__(self, literals: Literals) -> None:
        super().__init__()
        self._literals = literals

    def __missing__(self, text: str) -> Sql:
        if len(self) >= KNOWN:
            self.clear()
        found = self[text] = parse(text, self._literals)
        return found


def _table_of(kind: str, body: str) -> str | None:
    if kind in TABLES:
        found = TABLES[kind].search(body)
        return None if found is None else found[1].strip(QUOTES)
    defined = DEFINED.match(body) if kind in DEFINES else None
    return None if defined is None else f"{defined[1].upper()} {defined[2].strip(QUOTES)}"


def shortened(text: str) -> str:
    """Return the text of a statement on one line, with lists of values in short."""
    found = " ".join(text.split())
    found = ROWS.sub(r"\1…", LISTS.sub("(?…)", found))
    return found[:LONGEST]
