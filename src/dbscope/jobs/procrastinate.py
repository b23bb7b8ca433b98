"""Procrastinate: a scope around each task, and a sweeper for the jobs of workers that died."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from dbscope import AsyncDatabase
from dbscope.extras import needed
from dbscope.jobs.databases import AnyDatabase, is_on_loop, of_this_code
from dbscope.jobs.message import message_id
from dbscope.jobs.scope import AsyncJob, PlainJob

with needed("procrastinate", "Procrastinate"):
    from procrastinate import App, JobContext
    from procrastinate.jobs import JobDeferrer, Status
    from procrastinate.manager import JobManager

    from dbscope.jobs.deferring import InTransaction

__all__ = ["delay_on_commit", "in_transaction", "install", "message_id", "middleware"]

logger = logging.getLogger("dbscope")

SWEEPER = "dbscope_retry_stalled_jobs"


def install(
    db: AnyDatabase,
    app: App,
    *,
    stalled_after: float = 30,
    sweep: str = "* * * * *",
    attempts: int = 5,
) -> None:
    """Open a scope around each task, and have the jobs of a dead worker done again.

    COMMIT is a part of the task: a failing one fails the job, or has it retried as its `retry`
    says; every exception rolls back, `JobAborted` too. Without the sweeper the job of a worker that
    was killed stays `doing` for ever.

    Args:
        db: the database, of either kind.
        app: of Procrastinate. Who gives `task_middleware` to `run_worker` adds `middleware(db)`.
        stalled_after: seconds without a heartbeat after which a worker is dead.
        sweep: when to look for its jobs, as cron has it; six fields for seconds, the last one.
        attempts: a job that has been begun so often is failed instead, since it may be what kills.

    Example:
        >>> app = App(connector=PsycopgConnector())
        >>> install(db, app)
    """
    defaults: Any = app.worker_defaults
    defaults["task_middleware"] = [*defaults.get("task_middleware", ()), *middleware(db)]

    @app.periodic(cron=sweep)
    @app.task(name=SWEEPER, queueing_lock=SWEEPER)
    async def retry_stalled_jobs(timestamp: int) -> None:  # noqa: ARG001
        await _retry_stalled_jobs(app, stalled_after, attempts)


def middleware(db: AnyDatabase) -> list[Callable[..., Any]]:
    """Return the middlewares that open a scope: one for async tasks, one for plain ones.

    Args:
        db: the database, of either kind.
    """

    async def in_scope(
        call_next: Callable[[], Awaitable[Any]],
        context: JobContext,
        worker: Any,  # noqa: ARG001
    ) -> Any:
        async with AsyncJob(db, context.job.task_name, str(context.job.id)):
            return await call_next()

    def plain_in_scope(
        call_next: Callable[[], Any],
        context: JobContext,
        worker: Any,  # noqa: ARG001
    ) -> Any:
        with PlainJob(db, context.job.task_name, str(context.job.id)):
            return call_next()

    return [in_scope, plain_in_scope]


def delay_on_commit(db: AnyDatabase, task: Any, **kwargs: Any) -> None:
    """Call `task.defer(...)` after the outermost COMMIT, once, or never.

    Args:
        db: the database whose COMMIT it waits for.
        task: of Procrastinate, or what its `configure` returns.
        kwargs: for the task.

    Raises:
        TransactionRequired: in async code, outside of any scope: `await task.defer_async(...)`
            instead.
    """
    defer = task.defer_async if is_on_loop() else task.defer
    cast("AsyncDatabase[Any]", of_this_code(db)).on_commit(partial(defer, **kwargs))


def in_transaction(db: AnyDatabase, task: Any) -> JobDeferrer:
    """Return what stores jobs in the current transaction: they are there exactly if that is kept.

    The database is the one that Procrastinate has its jobs in.

    Args:
        db: the database whose session stores them.
        task: of Procrastinate, or what its `configure` returns.

    Raises:
        TransactionRequired: by its methods, outside a transaction.

    Example:
        >>> await in_transaction(db, write_invoice).defer_async(order=7)
    """
    deferrer = task if isinstance(task, JobDeferrer) else task.configure()
    dumps = getattr(deferrer.job_manager.connector, "_json_dumps", None) or json.dumps
    return JobDeferrer(JobManager(InTransaction(db, dumps)), deferrer.job)


async def _retry_stalled_jobs(app: App, stalled_after: float, attempts: int) -> None:
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=stalled_after):
        if job.attempts + 1 < attempts:
            await app.job_manager.retry_job(job)
            continue
        logger.error("%s has lost its worker %d times, and is given up.", job, attempts)
        await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=False)
