"""COMMITs that fail, to try what an application does then."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from dbscope.backends.sandbox import rules_of
from dbscope.engine.transaction import send_commit
from dbscope.testing.inside import dialects_of, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from dbscope.testing.inside import AnyDatabase


@contextmanager
def fail_commit(
    db: AnyDatabase, error: Exception | None = None, *, times: int = 1
) -> Generator[None]:
    """Let the next COMMIT be refused: nothing is stored, and the error is that of a constraint.

    Args:
        db: the database; a COMMIT of its companion fails, too.
        error: what the driver raises; without it, its `IntegrityError`.
        times: how many of them fail.

    Example:
        >>> with fail_commit(db):
        ...     assert client.post("/items", json={"name": "cup"}).status_code == 409
    """

    def refuse(dialect: Any, commit: Callable[[Any], None], connection: Any) -> None:  # noqa: ARG001
        message = "COMMIT was refused by fail_commit()"
        raise error or dialect.loaded_dbapi.IntegrityError(message)

    with _instead(db, refuse, times):
        yield


@contextmanager
def conflict(db: AnyDatabase, *, times: int = 1) -> Generator[None]:
    """Let the next COMMIT fail by a conflict with another transaction: it can be done again.

    Args:
        db: the database.
        times: how many fail: one less than is tried makes the last attempt succeed.

    Example:
        >>> with conflict(db, times=2):
        ...     assert client.post("/transfers").status_code == 201  # of `install(app, retry=2)`
    """
    rules = rules_of(source_of(db).sql_family)

    def refuse(dialect: Any, commit: Callable[[Any], None], connection: Any) -> None:  # noqa: ARG001
        raise rules.conflict(dialect.loaded_dbapi)

    with _instead(db, refuse, times):
        yield


@contextmanager
def lose_commit_answer(db: AnyDatabase, *, times: int = 1) -> Generator[None]:
    """Let the next COMMIT be done, and its answer be lost: `TransactionOutcomeUnknown`.

    Args:
        db: the database.
        times: how many answers are lost.

    Example:
        >>> with lose_commit_answer(db), pytest.raises(TransactionOutcomeUnknown):
        ...     place_order()
    """

    def lose(dialect: Any, commit: Callable[[Any], None], connection: Any) -> None:  # noqa: ARG001
        commit(connection)
        raise ConnectionResetError("the answer to COMMIT was lost by lose_commit_answer()")

    with _instead(db, lose, times):
        yield


@contextmanager
def _instead(db: AnyDatabase, act: Callable[..., None], times: int) -> Generator[None]:
    """Act in the place of the next COMMITs, where the driver would send them."""
    left = [times]
    ways = [(dialect, dialect.do_commit) for dialect in dialects_of(db)]
    for dialect, way in ways:
        commit = way.args[0]  # which `send_commit` is given
        dialect.do_commit = partial(send_commit, partial(_act, left, dialect, act, commit))
    try:
        yield
    finally:
        for dialect, way in ways:
            dialect.do_commit = way


def _act(
    left: list[int],
    dialect: Any,
    act: Callable[..., None],
    commit: Callable[[Any], None],
    connection: Any,
) -> None:
    if left[0] <= 0:
        commit(connection)
        return
    left[0] -= 1
    act(dialect, commit, connection)
