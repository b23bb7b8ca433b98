"""What PostgreSQL needs when revisions are written and run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.dialects import postgresql

from dbscope.backends.migrating import Migrating, rounded
from dbscope.backends.postgresql import migration_lock

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sqlalchemy import Connection, Engine, MetaData
    from sqlalchemy.types import TypeEngine

INVALID = text(
    "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE NOT indisvalid"
)


class PostgreSQLMigrating(Migrating):
    """What is particular to it."""

    @contextmanager
    def lock(self, engine: Engine, timeout: float, *, alone: bool) -> Generator[Connection]:  # noqa: ARG002
        """Hold an advisory lock."""
        with migration_lock.held(engine, timeout) as connection:
            yield connection

    def begin(self, seconds: float) -> Sequence[str]:
        """Wait for locks no longer than that, in the transaction."""
        return (f"SET LOCAL lock_timeout = '{rounded(seconds * 1000)}ms'",)

    def begin_session(self, seconds: float) -> Sequence[str]:
        """Wait for locks no longer than that, in the session."""
        return (f"SET lock_timeout = '{rounded(seconds * 1000)}ms'",)

    def invalid_indexes(self, connection: Connection) -> frozenset[str]:
        """Return the indexes that CREATE INDEX CONCURRENTLY did not finish."""
        return frozenset(connection.scalars(INVALID))

    def renders(self, type_: TypeEngine[Any]) -> bool:
        """A domain, with its constraints."""
        return isinstance(type_, postgresql.DOMAIN)

    def complete(self, upgrade: Any, downgrade: Any, models: Sequence[MetaData]) -> None:
        """Make and drop enum types and domains."""
        from dbscope.backends.postgresql import named_types

        named_types.complete(upgrade, downgrade, [*models])
