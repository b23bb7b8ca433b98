"""What an endpoint returns of a query before anybody has read it: FastAPI has no answer for that.

It would look into the object, and answer 200 with what it finds there, or fail with what it did.
"""

from __future__ import annotations

import sys
from typing import Any, Never

from sqlalchemy import Executable, MappingResult, Result, Row, ScalarResult
from sqlalchemy.ext.asyncio import AsyncMappingResult, AsyncResult, AsyncScalarResult

from dbscope.unit.current import open_scope

ROWS = (Result, ScalarResult, MappingResult, AsyncResult, AsyncScalarResult, AsyncMappingResult)
UNREAD = {
    ROWS: "a result that nobody has read: return its rows, as `result.all()`",
    (Row,): "a row, which is no JSON: return mappings, as `result.mappings().all()`",
    (Executable,): "a statement that nobody has run: return its rows, as "
    "`(await db.scalars(statement)).all()`",
}


def refuse() -> None:
    """Let FastAPI say so, if the application is one of its."""
    encoders: Any = sys.modules.get("fastapi.encoders")
    by_class: Any = getattr(encoders, "encoders_by_class_tuples", {})
    by_class.setdefault(_told, sum(UNREAD, ()))


def _told(returned: object) -> Never:
    what = next(each for kinds, each in UNREAD.items() if isinstance(returned, kinds))
    scope = open_scope()
    where = "An endpoint" if scope is None else f"The endpoint of {scope}"
    raise TypeError(f"{where} has returned {what}.")
