"""The scope around a job: COMMIT is a part of it, so that a failing one is a failing job."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Token
from typing import Any, Self

from dbscope.jobs import message
from dbscope.jobs.databases import AnyDatabase, plain, waiting
from dbscope.jobs.errors import portable

Keeps = Callable[[BaseException], bool]


def keeps_nothing(_: BaseException) -> bool:
    """Tell that an exception rolls back, as each does that does not say the message is done."""
    return False


class Job:
    """What both kinds share.

    Args:
        opened: the scope.
        name: of the job, for messages.
        message_id: what the system calls the message.
        keeps: tells of which exceptions the work is committed: those by which a job says that its
            message is done.
    """

    def __init__(
        self, opened: Any, name: str, message_id: str, keeps: Keeps = keeps_nothing
    ) -> None:
        self._opened = opened
        opened.where = f"the job {name}"
        opened.kind = "job"
        opened.robust = True  # a failing hook must not have the message done again
        self._message_id = f"{name}:{message_id}"
        self._keeps = keeps
        self._token: Token[str | None] | None = None

    def _enter(self) -> None:
        self._token = message.current.set(self._message_id)

    def _exit(self) -> None:
        if self._token is not None:
            message.current.reset(self._token)

    def _left_by(self, error: BaseException | None) -> tuple[Any, Any, Any]:
        """Return what the scope is told, and not of an exception that keeps the work."""
        if error is None or self._keeps(error):
            return None, None, None
        return type(error), error, error.__traceback__

    def _raise_portable(self, error: BaseException) -> None:
        """Raise what is told instead, if another process needs that to know its type."""
        if (raised := portable(error)) is not error:
            raise raised from error.__cause__

    @contextmanager
    def _leaving(self) -> Generator[None]:
        """End the scope inside, whose error may have to be portable."""
        try:
            yield
        except BaseException as failed:
            self._raise_portable(failed)
            raise
        finally:
            self._exit()

    def _left(self, error: BaseException | None, *, swallowed: bool) -> bool:
        """Return what an exit returns; an error that goes on is made portable."""
        if error is not None and not swallowed:
            self._raise_portable(error)
        return swallowed


class PlainJob(Job):
    """Of a plain function."""

    def __init__(
        self, db: AnyDatabase, name: str, message_id: str, keeps: Keeps = keeps_nothing
    ) -> None:
        super().__init__(plain(db).scope(), name, message_id, keeps)

    def __enter__(self) -> Self:
        self._enter()
        self._opened.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        with self._leaving():
            swallowed: bool = self._opened.__exit__(*self._left_by(error))
        return self._left(error, swallowed=swallowed)


class AsyncJob(Job):
    """Of an async function."""

    def __init__(
        self, db: AnyDatabase, name: str, message_id: str, keeps: Keeps = keeps_nothing
    ) -> None:
        super().__init__(waiting(db).scope(), name, message_id, keeps)

    async def __aenter__(self) -> Self:
        self._enter()
        await self._opened.__aenter__()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        with self._leaving():
            swallowed: bool = await self._opened.__aexit__(*self._left_by(error))
        return self._left(error, swallowed=swallowed)
