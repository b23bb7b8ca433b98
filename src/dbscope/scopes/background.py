"""`db.background()`: what is run when the response has left, in scopes of their own."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from asyncio import CancelledError
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, ParamSpec, cast

from dbscope import arguments
from dbscope.aio.threads import in_thread
from dbscope.errors import DurableError, ScopeMissing
from dbscope.scopes.client import ClientScope
from dbscope.scopes.decorating import must_be_outermost
from dbscope.unit.current import Scope, current
from dbscope.unit.hooks import is_async

P = ParamSpec("P")
logger = logging.getLogger("dbscope")
FAILED = "The background function %s of %s failed; its own work is rolled back."
_running: set[asyncio.Task[None]] = set()  # asyncio itself refers to tasks only weakly


class Background:
    """What both kinds of database have for work that can wait until the client is answered."""

    is_async: ClassVar[bool]

    def background(
        self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Run a function after the response, in a scope of its own.

        It is a hook of the block it is registered in, as `on_commit`: if that is rolled back, or
        if COMMIT fails, it is never run, and the same for all of a request. Outside a transaction,
        where everything is stored at once, nothing forgets it.

        The functions run in their order, one after the other, each with a session and a
        transaction of its own. The error of one is logged; it undoes nothing of its neighbours. In
        a job or a script they run when the outermost scope has ended; in a websocket behind the
        next message. Like Starlette's background tasks they live as long as the process: what must
        be done in any case is a job.

        Args:
            function: async, or plain, which runs in a thread where there is an event loop; a
                `Database` takes plain ones.
            args: what it is called with.
            kwargs: the same.

        Raises:
            ScopeMissing: outside any scope.
            TypeError: it cannot be called, or is async where nobody can await it.
            DurableError: it is durable, and is to be run in a transaction.

        Example:
            >>> db.background(send_receipt, order.id)
        """
        given: Any = function
        if not callable(given):
            arguments.check_call("the function of background()", given)
        if must_be_outermost(given):
            raise DurableError(
                f"background() runs {given!r} in a transaction. Give it the scope that it needs, "
                f"`db.background(db.scope(atomic=False)(function))`."
            )
        runner = runner_of(current.get())
        if is_async(function) and not runner.can_await:
            raise TypeError(f"{function!r} is async, and {runner} is ended by plain code.")
        database: Any = self
        if self.is_async and not is_async(function):
            database = database.sync
        task = partial(database.scope(function), *args, **kwargs)
        cast("Any", self).on_commit(partial(leave, task))


def runner_of(scope: Scope | None) -> Scope:
    """Return the scope behind whose end something is to run: the request, or the outermost one.

    Raises:
        ScopeMissing: there is none.
    """
    found: Scope | None = None
    for each in () if scope is None else scope.with_ancestors():
        if each.runs_background and not each.closed:
            found = each
        if isinstance(each, ClientScope):
            break
    if found is None:
        raise ScopeMissing(
            "background() was called outside any scope, so there is no end to run after."
        )
    return found


def leave(task: Callable[[], object]) -> None:
    """Leave a function to be run when the scopes around the running code have ended."""
    runner = runner_of(current.get())
    runner.background = (*runner.background, task)


# -- behind a scope that has ended -----------------------------------------------------------------


async def run_behind(scope: Scope) -> None:
    """Run what a scope has left, to the end; whoever is cancelled does not wait for it."""
    work = start(scope)
    if not isinstance(sys.exception(), CancelledError):
        await asyncio.shield(work)


def start(scope: Scope) -> asyncio.Task[None]:
    """Start to run what a scope has left, in a task of its own."""
    task = asyncio.create_task(_run_all(scope))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def _run_all(scope: Scope) -> None:
    while scope.background:
        task, *rest = scope.background
        scope.background = tuple(rest)
        work = asyncio.create_task(_run(task))  # what is cancelled inside is that alone
        try:
            await asyncio.wait([work])
        except CancelledError:
            work.cancel()
            names = ", ".join(map(name_of, (task, *scope.background)))
            logger.warning(
                "The background functions of %s were cancelled before they were done: %s.",
                scope,
                names,
            )
            await asyncio.wait([work])
            raise
        if work.cancelled():
            logger.error("The background function %s of %s was cancelled.", name_of(task), scope)
        elif (error := work.exception()) is not None:
            logger.error(FAILED, name_of(task), scope, exc_info=error)


async def _run(task: Callable[[], Any]) -> None:
    if is_async(task):
        await task()
    else:
        _refuse_to_await(await in_thread(task))


def run_plainly(scope: Scope) -> None:
    """Run what a scope of plain code has left."""
    while scope.background:
        task, *rest = scope.background
        scope.background = tuple(rest)
        try:
            _refuse_to_await(task())
        except Exception:
            logger.exception(FAILED, name_of(task), scope)


def _refuse_to_await(result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("a plain function has returned a coroutine; pass the async one itself.")


def name_of(task: Any) -> str:
    """Return the name of a function that was left to be run."""
    return str(getattr(task.func, "__qualname__", repr(task.func)))
