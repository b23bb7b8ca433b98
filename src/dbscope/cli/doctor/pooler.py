"""A pooler (PgBouncer and its like) between us and PostgreSQL, and prepared statements."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.util import await_only

from dbscope.cli.doctor.finding import Case, Finding, ok, serious, warning

OFF: dict[str, tuple[str, Any]] = {
    "psycopg": ("prepare_threshold", None),
    "asyncpg": ("statement_cache_size", 0),
}
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
        if known := OFF.get(name_of(dialect)):
            options[known[0]] = known[1]

    # On the class: its listeners come first, and the first of an engine may connect by itself.
    event.listen(Engine, "do_connect", before)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", before)


def name_of(dialect: Any) -> str:
    """Return the name of the driver, which for psycopg is one for both kinds."""
    return str(dialect.driver).removesuffix("_async")


def pooler(case: Case, connection: Connection) -> Finding:
    """Behind a pooler that hands server connections around, nothing is prepared by name."""
    if not is_pooled(connection):
        return ok("none: the connection goes to the server itself")
    driver = name_of(connection.dialect)
    if not prepares(driver, case.arguments) or translates_names(connection):
        return ok("there is one, and prepared statements suit it")
    name, value = OFF[driver]
    remedy = (
        f"engine_options={{'connect_args': {{'{name}': {value}}}}}, "
        "or max_prepared_statements in PgBouncer 1.21 or newer."
    )
    told = "A pooler (PgBouncer, say) is in between, and the driver prepares statements"
    if is_handed_around(case, connection):
        return serious(
            f"{told}: they are missing, or there already, in another transaction.", remedy
        )
    return warning(f"{told}, which is well only as long as it pools whole sessions.", remedy)


def is_pooled(connection: Connection) -> bool:
    """Tell whether the process that answers is another than the one we were told of.

    The server tells it when it accepts; a pooler makes one up.
    """
    if connection.dialect.name != "postgresql":
        return False
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "get_server_pid"):  # asyncpg
        told = driver.get_server_pid()
    else:
        told = getattr(getattr(driver, "info", None), "backend_pid", None)
    return told is not None and told != process_of(connection)


def process_of(connection: Connection) -> int:
    """Return the process of the server that answers in this transaction."""
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def is_handed_around(case: Case, connection: Connection) -> bool:
    """Tell whether another client gets the server's connection as soon as we do not use it."""
    other = Engine(case.engine.pool.recreate(), case.engine.dialect, case.engine.url)
    try:
        with other.connect() as second:
            for _ in range(ATTEMPTS):
                ours = process_of(connection)
                connection.rollback()
                if process_of(second) == ours:
                    return True
                second.rollback()
            return False
    finally:
        other.dispose()


def prepares(driver: str, arguments: dict[str, Any]) -> bool:
    """Tell whether the driver, connected with these arguments, prepares statements by name.

    psycopg: https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
    asyncpg: https://magicstack.github.io/asyncpg/current/faq.html
    """
    if driver == "psycopg":
        return arguments.get("prepare_threshold", 5) is not None
    if driver == "asyncpg":
        named_otherwise = "prepared_statement_name_func" in arguments
        return not named_otherwise and arguments.get("statement_cache_size", 100) != 0
    return False


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
