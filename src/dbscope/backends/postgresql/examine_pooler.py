"""A pooler (PgBouncer and its like) between us and PostgreSQL, and prepared statements."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.util import await_only

from dbscope.backends.doctor import Case, Finding, ok, serious, warning
from dbscope.backends.postgresql.pooler import (
    NOTHING_PREPARED,
    answering_pid,
    driver_name,
    is_pooled,
)

ATTEMPTS = 3


@contextmanager
def nothing_prepared(case: Case) -> Generator[None]:
    """Connect without prepared statements, which would stay behind in a pooler's connections.

    What the application connects with is kept in `case.arguments`.
    """

    def before(dialect: Any, record: Any, given: Any, options: dict[str, Any]) -> None:  # noqa: ARG001
        if dialect is not case.engine.dialect:
            return
        case.arguments.update({**options, **case.arguments})
        options.update(NOTHING_PREPARED.get(driver_name(dialect), {}))

    # On the class: its listeners come first, and the first of an engine may connect by itself.
    event.listen(Engine, "do_connect", before)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", before)


def pooler(case: Case, connection: Connection) -> Finding:
    """Behind a pooler that hands server connections around, nothing is prepared by name."""
    if not is_pooled(connection):
        return ok("none: the connection goes to the server itself")
    found = preparing(driver_name(connection.dialect), case.arguments)
    if found is None or translates_names(connection):
        return ok("there is one, and prepared statements suit it")
    remedy = (
        f"Leave '{found}' out of `connect_args`: behind a pooler we prepare nothing then. "
        "Or max_prepared_statements in PgBouncer 1.21 or newer."
    )
    found = "A pooler (PgBouncer, say) is in between, and the driver is told to prepare statements"
    if is_handed_around(case, connection):
        return serious(
            f"{found}: they are missing, or there already, in another transaction.", remedy
        )
    return warning(f"{found}, which is well only as long as it pools whole sessions.", remedy)


def is_handed_around(case: Case, connection: Connection) -> bool:
    """Tell whether another client gets the server's connection as soon as we do not use it."""
    other = Engine(case.engine.pool.recreate(), case.engine.dialect, case.engine.url)
    try:
        with other.connect() as second:
            for _ in range(ATTEMPTS):
                ours = answering_pid(connection)
                connection.rollback()
                if answering_pid(second) == ours:
                    return True
                second.rollback()
            return False
    finally:
        other.dispose()


def preparing(driver: str, arguments: dict[str, Any]) -> str | None:
    """Return the argument by which the application has its driver prepare statements by name.

    Without one, nothing is prepared behind a pooler.
    """
    if driver == "psycopg" and arguments.get("prepare_threshold") is not None:
        return "prepare_threshold"
    named_otherwise = "prepared_statement_name_func" in arguments
    if driver == "asyncpg" and not named_otherwise:
        for name in ("statement_cache_size", "prepared_statement_cache_size"):
            if arguments.get(name, 0) != 0:
                return name
    return None


def translates_names(connection: Connection) -> bool:
    """Tell whether the pooler keeps account of prepared statements, by preparing one.

    It is gone again before the transaction ends, and with it the server connection.
    """
    driver: Any = connection.connection.driver_connection
    name = f"dbscope_{secrets.token_hex(8)}"
    if hasattr(driver, "pgconn"):
        driver.pgconn.prepare(name.encode(), b"SELECT 1")
    else:
        _kept = await_only(driver.prepare("SELECT 1", name=name))  # asyncpg closes what nobody has
    known = text("SELECT count(*) FROM pg_prepared_statements WHERE name = :name")
    if not connection.execute(known, {"name": name}).scalar_one():
        return True
    connection.exec_driver_sql(f'DEALLOCATE "{name}"')
    return False
