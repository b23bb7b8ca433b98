"""One command at a time in a process: `alembic.op` and `alembic.context` are global to it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

from dbscope import MigrationError
from dbscope.migrate.faults import as_migration_error

_one_at_a_time = Lock()
_inside: ContextVar[bool] = ContextVar("dbscope_migrating", default=False)


@contextmanager
def turn(doing: str) -> Generator[None, None, None]:
    """Wait until no other command runs, and turn what goes wrong into a MigrationError.

    Args:
        doing: what messages begin with.

    Raises:
        MigrationError: something went wrong; or a command calls another, which would never end.
    """
    if _inside.get():
        raise MigrationError(
            f"{doing} were called by a revision, or by what env.py imports, while they are running."
            " Call them in the lifespan, or below `if __name__ == '__main__':`."
        )
    with _one_at_a_time, as_migration_error(doing):
        token = _inside.set(True)
        try:
            yield
        finally:
            _inside.reset(token)
