"""What may be told of a driver's error: its code and the names in it, and nobody's data."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

NAMES_ONLY = re.compile(r"[\w ]+ constraint failed(: [\w., ]+)?")  # SQLite's, which has no values


def without_data(error: BaseException) -> str:
    """Say what an error of a driver is; its text may have what people have entered."""
    if isinstance(error, sqlite3.Error) and NAMES_ONLY.fullmatch(str(error)):
        return str(error)
    inner: Any = error if error.__cause__ is None else error.__cause__
    diagnosed: Any = getattr(error, "diag", inner)
    found = (code_of(error), getattr(diagnosed, "constraint_name", None))
    return " ".join(part for part in found if part) or type(error).__name__


def code_of(error: BaseException) -> str | None:
    """Return the code of a driver's error, as its database knows it."""
    if error.args and isinstance(error.args[0], int):  # of MySQL's drivers
        return str(error.args[0])
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    if code is None and error.__cause__ is not None:  # SQLAlchemy's adapter forgets some of them
        return code_of(error.__cause__)
    return None if code is None else str(code)
