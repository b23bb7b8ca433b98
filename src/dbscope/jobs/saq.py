"""SAQ: a scope around each function of a worker, and a second attempt for what a killed one had."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from dbscope import AsyncDatabase
from dbscope.extras import needed
from dbscope.jobs.databases import AnyDatabase, of_this_code
from dbscope.jobs.message import message_id
from dbscope.jobs.scope import AsyncJob, PlainJob

with needed("saq", "SAQ"):
    from saq import Job, Queue

__all__ = ["delay_on_commit", "in_scope", "install", "message_id"]

SWEEP = 10  # seconds; SAQ's own default is a minute
ONCE = 1  # SAQ's own default of `retries`, which is how often a job is tried


def install(db: AnyDatabase, settings: MutableMapping[str, Any], *, retries: int = 3) -> None:
    """Open a scope around each function of a worker's settings, those of cron jobs too.

    COMMIT is a part of the job: if it fails, the job is tried again, or FAILED with that error. The
    worker looks each 10 s for jobs that take longer than their `timeout`, as those of a killed one
    do, unless its `timers` say otherwise. Do it where jobs are sent from as well.

    Args:
        db: the database, of either kind.
        settings: of the worker, with its `queue` and its `functions`.
        retries: how often a job is tried that does not say it; with SAQ's default of once, the job
            of a killed worker is lost.

    Example:
        >>> settings = {"queue": queue, "functions": [place_order]}
        >>> install(db, settings)
    """
    settings["functions"] = [_wrapped(db, each) for each in settings.get("functions", ())]
    cron_jobs = settings.get("cron_jobs", ())
    settings["cron_jobs"] = [replace(job, function=in_scope(db, job.function)) for job in cron_jobs]
    settings["timers"] = {"sweep": SWEEP, **(settings.get("timers") or {})}
    queue: Queue = settings["queue"]
    queue.register_before_enqueue(_try_again(retries))


def delay_on_commit(db: AnyDatabase, queue: Queue, job: str | Job, **kwargs: Any) -> None:
    """Call `queue.enqueue(...)` after the outermost COMMIT, once, or never.

    Args:
        db: the database whose COMMIT it waits for.
        queue: of SAQ.
        job: the name of the function, or a job.
        kwargs: for the function, and properties of the job.

    Raises:
        TransactionRequired: outside of any scope: `await queue.enqueue(...)` instead.
    """
    send = partial(queue.enqueue, job, **kwargs)
    cast("AsyncDatabase[Any]", of_this_code(db)).on_commit(send)


def in_scope(db: AnyDatabase, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a worker with a scope around each job.

    Args:
        db: the database, of either kind.
        function: async or plain; its first argument is SAQ's context.
    """
    name = function.__qualname__
    if not inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        def plain(ctx: Any, *args: Any, **kwargs: Any) -> Any:
            with PlainJob(db, name, ctx["job"].id):
                return function(ctx, *args, **kwargs)

        return plain

    @functools.wraps(function)
    async def waiting(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        async with AsyncJob(db, name, ctx["job"].id):
            return await function(ctx, *args, **kwargs)

    return waiting


def _wrapped(db: AnyDatabase, function: Any) -> Any:
    """Return a function of the settings in a scope; it may come with a name."""
    if isinstance(function, tuple):
        name, called = cast("tuple[str, Callable[..., Any]]", function)
        return name, in_scope(db, called)
    return in_scope(db, function)


def _try_again(retries: int) -> Callable[[Job], Awaitable[None]]:
    async def before_enqueue(job: Job) -> None:
        if job.retries == ONCE:
            job.retries = retries

    return before_enqueue
