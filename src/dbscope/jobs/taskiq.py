"""Taskiq: a scope from before its dependencies are resolved to the end of the task.

It ends inside of what Taskiq calls the task, so that its retries see a COMMIT that fails.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

from dbscope import AsyncDatabase
from dbscope.extras import needed
from dbscope.jobs.databases import AnyDatabase, of_this_code
from dbscope.jobs.message import message_id
from dbscope.jobs.scope import AsyncJob

with needed("taskiq", "Taskiq"):
    from taskiq import AsyncBroker, TaskiqMessage, TaskiqMiddleware, TaskiqResult
    from taskiq.exceptions import NoResultError

__all__ = ["ScopeMiddleware", "delay_on_commit", "install", "message_id"]

logger = logging.getLogger("dbscope")

REQUEUED = "X-Taskiq-requeue"  # the label that counts how often a task was sent once more
# Who is killed while he takes what others have left keeps the lock of Redis, without a limit for
# ever: nothing that was left is taken any more.
LOCK = "unacknowledged_lock_timeout"
LOCK_TIMEOUT = 60.0  # seconds

_open: ContextVar[AsyncJob | None] = ContextVar("dbscope_taskiq", default=None)


def install(db: AnyDatabase, broker: AsyncBroker) -> None:
    """Open a scope around each task, dependencies included.

    COMMIT is a part of the task: if it fails, `result.is_err` is true, `result.error` is that
    error, and the middlewares for retries see it. `NoResultError` commits, since it only asks for
    no result; every other exception rolls back, `context.requeue()` and `reject()` too.

    Args:
        db: the database, of either kind.
        broker: one that acknowledges: of RabbitMQ, NATS JetStream, or `RedisStreamBroker`, whose
            lock gets a time limit.

    Example:
        >>> broker = AioPikaBroker("amqp://localhost")
        >>> install(db, broker)
    """
    broker.add_middlewares(ScopeMiddleware(db))
    if getattr(broker, LOCK, 0) is None:
        setattr(broker, LOCK, LOCK_TIMEOUT)
    elif type(broker).__name__ in {"ListQueueBroker", "PubSubBroker"}:
        logger.warning(
            "%s acknowledges a message before its task has run: that of a killed worker is lost. "
            "Use RedisStreamBroker.",
            type(broker).__name__,
        )


def delay_on_commit(db: AnyDatabase, task: Any, *args: Any, **kwargs: Any) -> None:
    """Call `task.kiq(...)` after the outermost COMMIT, once, or never.

    Args:
        db: the database whose COMMIT it waits for.
        task: of Taskiq, or its kicker.
        args: for the task.
        kwargs: for the task.

    Raises:
        TransactionRequired: outside of any scope: `await task.kiq(...)` instead.
    """
    send = partial(task.kiq, *args, **kwargs)
    cast("AsyncDatabase[Any]", of_this_code(db)).on_commit(send)


class ScopeMiddleware(TaskiqMiddleware):
    """A middleware that opens a scope around each task; the last one of its broker.

    Args:
        db: the database, of either kind.
    """

    def __init__(self, db: AnyDatabase) -> None:
        super().__init__()
        self._db = db

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Open the scope; the task ends it."""
        task = self.broker.find_task(message.task_name)
        if task is not None and not hasattr(task.original_func, "__dbscope__"):
            task.original_func = _ends_scope(task.original_func)
        job = AsyncJob(self._db, message.task_name, message.task_id, _is_done(message))
        await job.__aenter__()
        _open.set(job)
        return message

    async def post_execute(
        self,
        message: TaskiqMessage,  # noqa: ARG002
        result: TaskiqResult[Any],
    ) -> None:
        """End the scope of a task that was not called, since a dependency of it has failed."""
        job = _open.get()
        if job is not None:
            _open.set(None)
            error = result.error or NoResultError()
            await job.__aexit__(type(error), error, error.__traceback__)


def _is_done(message: TaskiqMessage) -> Callable[[BaseException], bool]:
    """Return what tells that a message is acknowledged, and was not sent once more before."""
    before = message.labels.get(REQUEUED)

    def is_done(error: BaseException) -> bool:
        return isinstance(error, NoResultError) and message.labels.get(REQUEUED) == before

    return is_done


def _ends_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a task, at whose end the scope around it ends.

    A plain one runs in a thread, in the same scope.
    """
    is_async = inspect.iscoroutinefunction(function)
    call = function if is_async else partial(asyncio.to_thread, function)

    @functools.wraps(function)
    async def in_scope(*args: Any, **kwargs: Any) -> Any:
        job = _open.get()
        if job is None:
            return await call(*args, **kwargs)
        _open.set(None)
        async with AsyncExitStack() as stack:
            stack.push_async_exit(job)
            return await call(*args, **kwargs)

    in_scope.__dbscope__ = True  # type: ignore[attr-defined]
    return in_scope
