"""Which file a URL of SQLite means."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from sqlalchemy import URL

MEMORY = ":memory:"
ATTACH = re.compile(r"\s*+ATTACH\s++(?:DATABASE\s++)?", re.IGNORECASE)
AS = re.compile(r"(?<!\s)\s++AS(?=\s+\S)", re.IGNORECASE)
ON_DISK = "dbscope_on_disk"  # what `on_disk` is called in SQL
DISK = "win32" if os.name == "nt" else "unix"  # SQLite's name for what it usually stores files in


def name_of(url: URL) -> str:
    """Return what messages call the database."""
    return url.database or MEMORY


def path_of(url: URL) -> str | None:
    """Return the path of the file, the same for all names that it goes by; None: in memory."""
    if is_memory(url):
        return None
    return os.path.realpath(name_of(url).removeprefix("file:").partition("?")[0])


def is_memory(url: URL) -> bool:
    """Tell whether the database is in memory."""
    return is_in_memory(name_of(url)) or url.query.get("mode") == "memory"


def is_in_memory(name: str) -> bool:
    """Tell whether this is what a database in memory is called."""
    named = name.startswith((MEMORY, f"file:{MEMORY}"))
    return named or "mode=memory" in name or "vfs=memdb" in name


def attach_on_disk(sql: str) -> str:
    """Return a statement that attaches files as files, where the main database is none.

    SQLite looks for them where the main database is, so they would be in memory, too.

    Examples:
        >>> attach_on_disk("ATTACH ? AS other")
        'ATTACH dbscope_on_disk(?) AS other'
    """
    begin = ATTACH.match(sql)
    ends = list(AS.finditer(sql, begin.end())) if begin else []
    if begin is None or not ends:
        return sql
    start, end = begin.end(), ends[-1].start()
    return f"{sql[:start]}{ON_DISK}({sql[start:end]}){sql[end:]}"


def on_disk(name: str) -> str:
    """Return the name of a database as a URI that says where it is (https://sqlite.org/uri.html).

    Examples:
        >>> on_disk(":memory:")
        ':memory:'
    """
    if not name or is_in_memory(name) or "vfs=" in name:
        return name
    uri = name if name.startswith("file:") else f"file:{quote(name, safe='/:')}"
    return f"{uri}{'&' if '?' in uri else '?'}vfs={DISK}"
