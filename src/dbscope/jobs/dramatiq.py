"""Dramatiq: a scope around the function of each actor, where its retries see a failing COMMIT.

What the hooks around a message raise is swallowed by Dramatiq, so it is the actor that is wrapped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from dbscope.extras import needed
from dbscope.jobs.databases import AnyDatabase, send_on_commit
from dbscope.jobs.message import message_id
from dbscope.jobs.scope import AsyncJob, PlainJob

with needed("dramatiq", "Dramatiq"):
    from dramatiq import Broker, Middleware
    from dramatiq import asyncio as dramatiq_asyncio

__all__ = ["ScopeMiddleware", "delay_on_commit", "install", "message_id"]

_received: ContextVar[str | None] = ContextVar("dbscope_dramatiq", default=None)


def install(db: AnyDatabase, broker: Broker) -> None:
    """Open a scope around each message of an actor, plain or async.

    COMMIT is a part of the actor: a failing one is retried, as `max_retries` says, and every
    exception rolls back, `Retry` too. Who calls an actor as a function has a scope of his own.

    Args:
        db: the database, of either kind.
        broker: of RabbitMQ or Redis; both give what a killed worker was at to another one.

    Example:
        >>> broker = RabbitmqBroker(url="amqp://localhost")
        >>> install(db, broker)
    """
    broker.add_middleware(ScopeMiddleware(db))


def delay_on_commit(db: AnyDatabase, actor: Any, *args: Any, **kwargs: Any) -> None:
    """Call `actor.send(...)` after the outermost COMMIT, once, or never; outside of one at once.

    Args:
        db: the database whose COMMIT it waits for.
        actor: of Dramatiq.
        args: for the actor.
        kwargs: for the actor.
    """
    send_on_commit(db, partial(actor.send, *args, **kwargs))


class ScopeMiddleware(Middleware):
    """A middleware that opens a scope around each message.

    Args:
        db: the database, of either kind.
    """

    def __init__(self, db: AnyDatabase) -> None:
        self._db = db

    def after_declare_actor(self, broker: Any, actor: Any) -> None:
        """Put the scope around its function; Dramatiq has put a thread around an async one."""
        if isinstance(actor, str):  # before 2.0, of those that were there before
            actor = broker.get_actor(actor)
        function: Any = actor.fn
        if getattr(function, "__globals__", None) is vars(dramatiq_asyncio):
            inside = self._async_in_scope(actor.actor_name, function.__wrapped__)
            actor.fn = dramatiq_asyncio.async_to_sync(inside)
        else:
            actor.fn = self._in_scope(actor.actor_name, function)

    def before_process_message(self, broker: Broker, message: Any) -> None:  # noqa: ARG002
        """Note what the actor is called for."""
        _received.set(message.message_id)

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002
        message: Any,  # noqa: ARG002
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        """Forget it."""
        _received.set(None)

    def after_skip_message(self, broker: Broker, message: Any) -> None:  # noqa: ARG002
        """Forget it."""
        _received.set(None)

    def _in_scope(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def in_scope(*args: Any, **kwargs: Any) -> Any:
            if (received := _take()) is None:
                return function(*args, **kwargs)
            with PlainJob(self._db, name, received):
                return function(*args, **kwargs)

        return in_scope

    def _async_in_scope(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def in_scope(*args: Any, **kwargs: Any) -> Any:
            if (received := _take()) is None:
                return await function(*args, **kwargs)
            async with AsyncJob(self._db, name, received):
                return await function(*args, **kwargs)

        return in_scope


def _take() -> str | None:
    """Return for which message an actor is called; None for one that another one calls."""
    received = _received.get()
    _received.set(None)
    return received
