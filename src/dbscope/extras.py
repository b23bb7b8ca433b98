"""The packages that are not always there: which extra of ours brings each."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from dbscope.backends import registry
from dbscope.errors import ConfigurationError

SYSTEMS = ("celery", "dramatiq", "faststream", "procrastinate", "saq", "taskiq")  # of jobs
EXTRAS = {
    "alembic": "migrations",
    "opentelemetry": "opentelemetry",
    "prometheus_client": "prometheus",
    "sentry_sdk": "sentry",
    "starlette": "fastapi",
    "typer": "cli",
    **{name: name for name in SYSTEMS},
    **registry.EXTRAS,
}


def install(package: str) -> str:
    """Return the command that installs a package, with what we need beside it."""
    extra = EXTRAS.get(package)
    wanted = f"'dbscope[{extra}]'" if extra else registry.PACKAGES.get(package, package)
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
