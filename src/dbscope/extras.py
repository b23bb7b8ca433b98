"""The packages that are not always there: which extra of ours brings each."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from dbscope.errors import ConfigurationError

EXTRAS = {
    "aiosqlite": "aiosqlite",
    "alembic": "migrations",
    "asyncmy": "mysql",
    "asyncpg": "asyncpg",
    "celery": "celery",
    "dramatiq": "dramatiq",
    "faststream": "faststream",
    "procrastinate": "procrastinate",
    "psycopg": "postgres",
    "pymysql": "mysql",
    "saq": "saq",
    "starlette": "fastapi",
    "taskiq": "taskiq",
    "typer": "cli",
}
OTHERS = {"mysqldb": "mysqlclient", "psycopg2": "psycopg2-binary"}  # where the name is another


def install(package: str) -> str:
    """Return the command that installs a package, with what we need beside it."""
    extra = EXTRAS.get(package)
    wanted = f"'dbscope[{extra}]'" if extra else OTHERS.get(package, package)
    return f"pip install {wanted}"


@contextmanager
def needed(package: str, what: str) -> Generator[None, None, None]:
    """Import a package inside, or say which extra brings it.

    Args:
        package: its name.
        what: what it is called in a sentence: "The driver 'psycopg'".

    Raises:
        ConfigurationError: it cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"{what} is not installed ({error}): {install(package)}."
        ) from error
