"""Celery: a scope around each run of a task, inside of `autoretry_for`.

Tasks are plain functions, and a scope is that of `Database`: of an `AsyncDatabase` it is `db.sync`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from dbscope import ConfigurationError
from dbscope.extras import needed
from dbscope.jobs.databases import AnyDatabase, send_on_commit
from dbscope.jobs.message import message_id
from dbscope.jobs.scope import PlainJob

with needed("celery", "Celery"):
    import celery  # pyright: ignore[reportMissingTypeStubs]
    from celery.exceptions import Ignore  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["delay_on_commit", "install", "message_id"]

OF_CELERY = "celery."  # how the names of its own tasks begin


def install(db: AnyDatabase, app: Any) -> None:
    """Open a scope around each task, and have one done again whose worker died.

    COMMIT is a part of the task: if it fails, that is a FAILURE, or retried by `autoretry_for`.
    `Ignore` commits, since the message is acknowledged; every other exception rolls back, `Retry`
    and `Reject` too. Tasks have `acks_late` and `reject_on_worker_lost`, unless they say otherwise,
    and the method `delay_on_commit`. A base class of your own derives from `app.Task`.

    Args:
        db: the database, of either kind.
        app: of Celery, before its first task is used.

    Raises:
        ConfigurationError: the application has made its tasks already.

    Example:
        >>> app = Celery("shop", broker="amqp://localhost")
        >>> install(db, app)
    """
    if app.finalized:
        raise ConfigurationError(
            f"{app!r} has made its tasks already. Call `install` right after the application is "
            "made, before its first task is used."
        )
    app.task_cls = _task_class(db, app.Task)
    del app.Task  # Celery makes it anew, of that class


def delay_on_commit(db: AnyDatabase, task: Any, *args: Any, **kwargs: Any) -> None:
    """Call `task.delay(...)` after the outermost COMMIT, once, or never; outside of one at once.

    Args:
        db: the database whose COMMIT it waits for.
        task: of Celery.
        args: for the task.
        kwargs: for the task.
    """
    send_on_commit(db, partial(task.delay, *args, **kwargs))


def _task_class(db: AnyDatabase, base: type[Any]) -> type[Any]:
    """Return the class of the tasks of an application."""

    class ScopedTask(base):  # type: ignore[misc]
        """A task with a scope around each run."""

        abstract = True
        acks_late = True  # otherwise the message is gone before the work is begun
        reject_on_worker_lost = True  # otherwise it is acknowledged for a worker that was killed

        @classmethod
        def on_bound(cls, app: Any) -> None:
            """Put the scope around `run`, before Celery puts its own retries around that."""
            super().on_bound(app)  # pyright: ignore[reportUnknownMemberType]
            if not cls.name.startswith(OF_CELERY):
                _put_scope_around_run(db, cls)

        def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
            """Call `delay` after the outermost COMMIT, once, or never."""
            delay_on_commit(db, self, *args, **kwargs)

        def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:
            """Call `apply_async` after the outermost COMMIT, once, or never."""
            send_on_commit(db, partial(self.apply_async, *args, **kwargs))

    return ScopedTask


def _put_scope_around_run(db: AnyDatabase, task: type[Any]) -> None:
    """Have the `run` of a class open a scope; that of a function is static, or takes the task."""
    run = inspect.getattr_static(task, "run")
    if isinstance(run, staticmethod):
        task.run = staticmethod(_in_scope(db, task.name, run.__func__))
    else:
        task.run = _in_scope(db, task.name, run)


def _in_scope(db: AnyDatabase, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a worker runs; who calls a task as a function has a scope of his own."""

    @functools.wraps(run)
    def in_scope(*args: Any, **kwargs: Any) -> Any:
        task: Any = celery.current_task
        request = task.request if task else None
        if request is None or request.called_directly:
            return run(*args, **kwargs)
        with PlainJob(db, name, request.id, is_done):
            return run(*args, **kwargs)

    return in_scope


def is_done(error: BaseException) -> bool:
    """Tell whether Celery acknowledges the message, and asks no more of the task."""
    return isinstance(error, Ignore)
