"""What `dbscope doctor` looks at on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import Connection, text

from dbscope.backends.doctor import Case, ConnectionCheck, Doctor, Finding, ok, warning
from dbscope.backends.postgresql.examine_pooler import nothing_prepared, pooler
from dbscope.backends.postgresql.examine_sessions import session_state
from dbscope.backends.postgresql.pooler import is_pooled

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

# What is left for this role in this database; least() passes over NULL.
ROOM = """
    SELECT least(
        current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int,
        (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()),
        (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)
    )"""


def idle_in_transaction(case: Case, connection: Connection) -> Finding:  # noqa: ARG001
    """A transaction that nobody goes on with is ended by the server."""
    asked = text("SELECT current_setting('idle_in_transaction_session_timeout')")
    limit = connection.execute(asked).scalar_one()
    if limit == "0":
        return warning(
            "idle_in_transaction_session_timeout is not set: a process that hangs in a transaction "
            "holds its locks for ever, and blocks migrations and VACUUM.",
            "ALTER DATABASE … SET idle_in_transaction_session_timeout = '60s'",
        )
    return ok(f"ended after {limit}")


class PostgreSQLDoctor(Doctor):
    """What is particular to it."""

    title = "PostgreSQL"
    oldest = (14,)  # https://www.postgresql.org/support/versioning/
    a_pooler = "a pooler (PgBouncer)"
    usual_passwords = frozenset({"postgres"})
    connected: ClassVar[tuple[ConnectionCheck, ...]] = (pooler, idle_in_transaction, session_state)

    def connecting(self, case: Case) -> AbstractContextManager[None]:
        """Prepare nothing: behind a pooler it would stay there."""
        return nothing_prepared(case)

    def room(self, connection: Connection) -> int | None:
        """Return what is left; behind a pooler its own limit counts."""
        return None if is_pooled(connection) else int(connection.exec_driver_sql(ROOM).scalar_one())
