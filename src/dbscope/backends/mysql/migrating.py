"""What MySQL and MariaDB need when revisions are run."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbscope.backends.migrating import Migrating, rounded
from dbscope.backends.mysql import migration_lock

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sqlalchemy import Connection, Engine


class MySQLMigrating(Migrating):
    """What is particular to them."""

    drop_temporary = "DROP TEMPORARY TABLE"

    @contextmanager
    def lock(self, engine: Engine, timeout: float, *, alone: bool) -> Generator[Connection]:
        """Hold a lock of the session."""
        with engine.connect() as connection:
            migration_lock.take(connection, timeout, alone=alone)
            yield connection

    def begin(self, seconds: float) -> Sequence[str]:
        """Wait for locks no longer than that, in the session."""
        whole = rounded(seconds)
        return (f"SET lock_wait_timeout = {whole}, innodb_lock_wait_timeout = {whole}",)
