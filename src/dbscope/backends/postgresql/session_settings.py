"""`session_settings`: what each transaction tells the server about who it is for.

For policies of row level security (https://www.postgresql.org/docs/current/ddl-rowsecurity.html).
The names and the values are bound, so nothing that they contain is SQL; they end with the
transaction, so nothing of them stays in the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, literal, select

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


def tell(connection: Connection, values: Mapping[str, str]) -> None:
    """Set the values for the transaction that has just begun: one statement for all of them."""
    if values:
        assignments = [
            func.set_config(literal(name), literal(value), literal(True))
            for name, value in values.items()
        ]
        connection.execute(select(*assignments)).close()
