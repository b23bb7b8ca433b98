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
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    if code is None and error.args and isinstance(error.args[0], int):  # of MySQL's drivers
        code = error.args[0]
    parts = [str(part) for part in (code, getattr(diagnosed, "constraint_name", None)) if part]
    return " ".join(parts) or type(error).__name__
