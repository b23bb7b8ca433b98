"""How PostgreSQL would do a SELECT, whatever its values: its generic plan."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

NAME = "dbscope_plan"
LIMITS = (  # "PREPARE": with force_generic_plan, the values do not matter
    "TRANSACTION READ ONLY",
    "LOCAL plan_cache_mode = force_generic_plan",
    "LOCAL statement_timeout = 3000",
)


def ask(connection: Connection, sql: str) -> list[str]:
    """Return the lines of EXPLAIN.

    It runs no statement, and what the planner itself calls (stable functions) cannot write here.
    """
    for limit in LIMITS:
        connection.exec_driver_sql(f"SET {limit}")
    numbers = count(1)
    asked = re.sub(r"\?", lambda _: f"${next(numbers)}", sql)
    nothing = ", ".join(["NULL"] * sql.count("?"))
    connection.exec_driver_sql(f"PREPARE {NAME} AS {asked}")
    try:
        with connection.begin_nested():
            told = f"EXPLAIN EXECUTE {NAME}{f'({nothing})' if nothing else ''}"
            return list(connection.exec_driver_sql(told).scalars())
    finally:
        connection.exec_driver_sql(f"DEALLOCATE {NAME}")
