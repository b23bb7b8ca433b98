"""A pooler (PgBouncer and its like) between us and PostgreSQL: found when connecting.

It gives the server's connection to somebody else as soon as a transaction is over, with all that
belongs to the session: statements that were prepared by name, and what SET has set. So behind it
nothing of that kind is relied upon (https://www.pgbouncer.org/features.html).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dbscope.backends.postgresql import simple

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import Dialect

logger = logging.getLogger("dbscope")


def unnamed() -> str:
    """Return the name of the statement that nobody finds but who has just sent it."""
    return ""


# What the drivers are connected with, so that they prepare nothing by name.
# psycopg: https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
# asyncpg: https://magicstack.github.io/asyncpg/current/faq.html
NOTHING_PREPARED: dict[str, dict[str, Any]] = {
    "psycopg": {"prepare_threshold": None},
    "asyncpg": {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": unnamed,
    },
}
REMEDY = "see docs/how-to/pgbouncer.md"
# A prepared statement that is not there, and one that is there already.
NOT_OURS = frozenset({"26000", "42P05"})


class Pooler:
    """Whether there is a pooler in front of a database; known when one has connected.

    Args:
        name: what messages call the database.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.found = False

    def note(self) -> None:
        """Note that there is one, and say so once."""
        if not self.found:
            self.found = True
            logger.info(
                "A pooler (PgBouncer, say) is in front of %s: no statement is prepared by name, "
                "and reads of read-only scopes are transactions; %s.",
                self.name,
                REMEDY,
            )


def driver_name(dialect: Dialect) -> str:
    """Return the name of the driver, which for psycopg is one for both kinds."""
    return dialect.driver.removesuffix("_async")


def install(engine: Engine, pooler: Pooler) -> None:
    """Look at each new connection of an engine: once for its life.

    What the application itself says about prepared statements is left alone.
    """
    dialect: Any = engine.dialect
    nothing_prepared = NOTHING_PREPARED.get(driver_name(dialect))
    if dialect.name != "postgresql" or nothing_prepared is None:
        return
    connect = dialect.connect

    def connect_and_look(*args: Any, **kwargs: Any) -> Any:
        if not pooler.found:
            connection = connect(*args, **kwargs)
            if not is_in_front_of(connection):
                return connection
            pooler.note()
            dialect.do_close(connection)
        return connect(*args, **{**nothing_prepared, **kwargs})

    dialect.connect = connect_and_look
    set_isolation_level = dialect.set_isolation_level

    def set_unless_readonly(connection: Any, level: Any) -> None:
        # What says READ ONLY when it begins has to begin.
        if level != "AUTOCOMMIT" or not dialect.get_readonly(connection):
            set_isolation_level(connection, level)

    dialect.set_isolation_level = set_unless_readonly


def is_in_front_of(connection: Any) -> bool:
    """Tell whether the process that answers is another than the one we were told of.

    The server tells it when it accepts; a pooler makes one up. One round trip.
    """
    driver = simple.driver_of(connection)
    try:
        return simple.run(driver, f"SELECT 1 WHERE pg_backend_pid() = {known_pid(driver):d}") == (
            "SELECT 0"
        )
    except BaseException:
        _let_go(driver)
        raise


def known_pid(driver: Any) -> int:
    """Return the process that answers, as the driver was told when it connected."""
    return int(driver.get_server_pid() if simple.is_asyncpg(driver) else driver.info.backend_pid)


def is_pooled(connection: Connection) -> bool:
    """Tell the same of a connection of SQLAlchemy's, in its transaction."""
    if driver_name(connection.dialect) not in NOTHING_PREPARED:
        return False
    return known_pid(connection.connection.driver_connection) != answering_pid(connection)


def answering_pid(connection: Connection) -> int:
    """Return the process of the server that answers in this transaction."""
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def _let_go(driver: Any) -> None:
    if simple.is_asyncpg(driver):
        driver.terminate()
    else:
        driver.pgconn.finish()


def refuse_writes(connection: Any, dialect: Any, pooler: Pooler) -> None:
    """Make a new connection one that cannot write.

    Not with the login: who asks for a server that can be written to (`target_session_attrs`) would
    be refused by the driver, and who comes by a pooler, by that. Behind a pooler, where the
    session is somebody else's by the next statement, each transaction says it when it begins;
    it costs nothing then, but the reads that would have been none (see `install`).
    """
    if driver_name(dialect) in NOTHING_PREPARED and not pooler.found:
        simple.run(connection, "SET default_transaction_read_only = on")
    else:
        dialect.set_readonly(connection, True)


def blame(pooler: Pooler, state: str | None) -> str | None:
    """Say what a pooler has to do with an error; None: nothing."""
    if not pooler.found or state not in NOT_OURS:
        return None
    return (
        f"A pooler (PgBouncer, say) is in front of {pooler.name}, and has given us a connection "
        f"with statements that others have prepared. Leave out of `connect_args` what turns "
        f"prepared statements on ({REMEDY})."
    )
