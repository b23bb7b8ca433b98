"""At which revision the database is, and what is pending."""

from __future__ import annotations

from pathlib import Path
from re import search
from typing import Any

from dbscope.errors import DBScopeError

WRITTEN = r"Create Date: (\d{4}-\d\d-\d\d)"
HEAD = 2000  # characters of a file, in which its date is


def told(migrations: Any, noted: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return all revisions, newest first, and what the database has of them.

    Args:
        migrations: a `dbscope.migrate.Migrations`.
        noted: when revisions were applied, and by which process, as far as one has noted it.
    """
    try:
        status, history = migrations.status(), migrations.history()
    except DBScopeError as error:
        return {"refused": error.what, "revisions": [], "unknown": []}
    pending = {each.id for each in status.pending}
    current = {each.id for each in status.current}
    known = {each: {"at": at, "by": "this process"} for each, at in migrations.ran.items()} | noted
    return {
        "is_current": status.is_current,
        "unknown": status.unknown,
        "unversioned": status.differences is not None,
        "revisions": [
            {
                "id": each.id,
                "message": each.message,
                "branches": each.branches,
                "state": "pending" if each.id in pending else "applied",
                "is_current": each.id in current,
                "written": written(each.path),
                "applied": None if each.id in pending else known.get(each.id),
            }
            for each in history
        ],
    }


def written(path: Path) -> str | None:
    """Return the day on which a revision was written, as its file says."""
    try:
        found = search(WRITTEN, path.read_text(encoding="utf-8")[:HEAD])
    except OSError:
        return None
    return None if found is None else found[1]
