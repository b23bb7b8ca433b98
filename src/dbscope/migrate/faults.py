"""One clear sentence for what went wrong while migrating."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

from alembic.script.revision import MultipleHeads, ResolutionError
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from dbscope import DBScopeError, MigrationError
from dbscope.backends.errors import has_waited_for_lock


@contextmanager
def as_migration_error(doing: str) -> Generator[None, None, None]:
    """Turn whatever leaves the block into a MigrationError, but for errors of ours."""
    try:
        yield
    except DBScopeError:
        raise
    except CommandError as error:
        raise MigrationError(f"{doing}: {_of_alembic(error)}") from error
    except Exception as error:
        raise MigrationError(f"{doing}: {said(error)}") from error


def _of_alembic(error: CommandError) -> str:
    cause = error.__cause__
    if isinstance(cause, ResolutionError):
        return f"There is no revision or branch {cause.argument!r}. `dbscope history` shows them."
    if isinstance(cause, MultipleHeads):
        many = f"There are several heads, so {cause.argument!r} is ambiguous"
        return f"{many}: use `heads`, or one: schema@head."
    return _sentence(str(error))


def said(error: BaseException) -> str:
    """Return what the database said, without the SQL, its values, and the DETAIL that has them."""
    if isinstance(error, DBScopeError) and error.what:
        return _sentence(error.what)
    if not isinstance(error, DBAPIError):
        return _sentence(f"{type(error).__name__}: {error}")
    words = _sentence(re.sub(r"^<class '[^']*'>: ", "", str(error.orig)))
    if has_waited_for_lock(error.orig):
        words += (
            " Somebody's transaction holds a lock that it needs, and did not end in time; look for"
            " one that is idle, or choose a quieter time: Migrations(db, ddl_timeout=...)."
        )
    return words


def _sentence(words: str) -> str:
    lines = words.strip().splitlines() or [""]
    return f"{lines[0].rstrip('.')}."
