"""How the database would do a SELECT: asked for by a person, and never done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbscope.errors import ConfigurationError
from dbscope.watch.sql import LONGEST, parse

if TYPE_CHECKING:
    from dbscope.watch.findings import Findings


async def plan(watch: Findings, sql: str) -> list[str]:
    """Return the lines of EXPLAIN, of a statement without its values.

    Raises:
        ConfigurationError: it is no SELECT, or cannot be explained without values.
        DatabaseUnavailable: the database cannot be asked.
    """
    if parse(sql).kind != "SELECT" or ";" in sql:
        raise ConfigurationError("Only a single SELECT is explained.")
    if len(sql) >= LONGEST:
        raise ConfigurationError("It is too long: only its beginning was kept.")
    return await watch.plan(sql.replace("…", ""))
