"""Which revisions were run, when and by which process: a file in the folder of the database.

Alembic's table has no dates, so whoever runs a revision notes it, where somebody watches or has
watched the database. What was run elsewhere, or before, is not known, and nobody guesses.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING, Any, cast

from dbscope.watch.share import answers, folder
from dbscope.watch.share.values import dictionary, encoded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FILE = "revisions"


def note(place: Path, ran: dict[str, float], undone: Iterable[str] | None) -> None:
    """Note what this process has run.

    Args:
        place: the folder, which is there.
        ran: revisions that were applied, and when, in seconds since 1970.
        undone: those of which that is over; None: all that are noted.

    Raises:
        OSError: it cannot be written, or the folder is not this user's alone.
    """
    folder.check(place)
    over = set(undone or ())
    kept = {} if undone is None else {k: v for k, v in noted(place).items() if k not in over}
    me = answers.process()
    by = f"{me['name']}, process {me['pid']}"
    found = kept | {revision: {"at": at, "by": by} for revision, at in ran.items()}
    with tempfile.NamedTemporaryFile(dir=place, prefix=".", delete=False) as file:  # mode 0600
        file.write(encoded(found))
    os.replace(file.name, place / FILE)  # noqa: PTH105  (of a name)


def noted(place: Path) -> dict[str, dict[str, Any]]:
    """Return what was noted by all: `at` and `by` of each revision."""
    try:
        folder.check(place)
        found = dictionary(json.loads(folder.read(place / FILE)))
    except (OSError, ValueError):
        return {}
    return {name: each for name, each in found.items() if is_note(each)}


def is_note(found: Any) -> bool:
    """Tell whether this is what a process has written."""
    told = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    return isinstance(told.get("by"), str) and isinstance(told.get("at"), int | float)
