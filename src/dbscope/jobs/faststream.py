"""FastStream: COMMIT before the acknowledgement, and a failed message comes again, later.

FastStream's own default drops a message whose handler failed, and its `NACK_ON_ERROR` brings it
back at once, for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any, cast

from dbscope import AsyncDatabase, ConfigurationError
from dbscope.extras import needed
from dbscope.jobs import redelivery
from dbscope.jobs.databases import AnyDatabase, of_this_code
from dbscope.jobs.message import message_id
from dbscope.jobs.scope import AsyncJob

with needed("faststream", "FastStream"):
    from faststream import AckPolicy, BaseMiddleware, ContextRepo, ExceptionMiddleware
    from faststream.exceptions import AckMessage, HandlerException

__all__ = ["RedeliveryMiddleware", "ScopeMiddleware", "install", "message_id", "publish_on_commit"]

logger = logging.getLogger("dbscope")

CallNext = Callable[[Any], Awaitable[Any]]
OURS_TO_ANSWER = (AckPolicy.REJECT_ON_ERROR, AckPolicy.NACK_ON_ERROR)


def install(
    db: AnyDatabase, broker: Any, *, attempts: int = 5, delay: float = 1, max_delay: float = 60
) -> None:
    """Open a scope around each message, and have one that failed delivered again.

    COMMIT is a part of handling a message, which is acknowledged after it. `AckMessage` commits,
    every other exception rolls back. Call it after the other middlewares were added.

    Args:
        db: the database, of either kind.
        broker: of FastStream. It delivers again by NATS JetStream, RabbitMQ and Redis streams.
        attempts: how often a message is delivered at most. A classic queue of RabbitMQ does not
            count, so there it is 2 at most.
        delay: seconds before the second attempt; doubled for each further one. On Redis it is the
            `min_idle_time` of a second subscriber that decides.
        max_delay: seconds that it grows to.

    Example:
        >>> broker = NatsBroker("nats://localhost")
        >>> install(db, broker)
    """
    broker.insert_middleware(RedeliveryMiddleware(attempts, delay, max_delay))
    broker.add_middleware(ScopeMiddleware(db, broker))


def publish_on_commit(
    db: AnyDatabase, broker: Any, message: Any, *args: Any, **options: Any
) -> None:
    """Publish after the outermost COMMIT, once, or never.

    Args:
        db: the database whose COMMIT it waits for.
        broker: what publishes, or one of its publishers.
        message: what is published.
        args: for its `publish`, as are the options.
        options: for its `publish`.

    Raises:
        TransactionRequired: outside of any scope: `await broker.publish(...)` instead.

    Example:
        >>> publish_on_commit(db, broker, {"order": order.id}, "orders.placed")
    """
    send = partial(broker.publish, message, *args, **options)
    cast("AsyncDatabase[Any]", of_this_code(db)).on_commit(send)


def is_done(error: BaseException) -> bool:
    """Tell whether it asks for an acknowledgement."""
    return isinstance(error, AckMessage)


class ScopeMiddleware:
    """A middleware of a broker that opens a scope around each message; the innermost one.

    Args:
        db: the database, of either kind.
        broker: whose middleware it is: a later one that handles errors is refused.
    """

    def __init__(self, db: AnyDatabase, broker: Any = None) -> None:
        self._db = db
        self._broker = broker

    def __call__(self, msg: Any, /, *, context: ContextRepo) -> _InScope:
        """Make that of one message."""
        return _InScope(msg, context=context, made_by=self)

    def job(self, message: Any, subscriber: Any) -> AsyncJob:
        """Return the scope of one message."""
        self._must_be_innermost()
        name = "/".join(call.name for call in subscriber.calls)
        return AsyncJob(self._db, name, redelivery.id_of(message), is_done)

    def _must_be_innermost(self) -> None:
        """Refuse who would handle an error of the work before the scope has seen it."""
        around = [] if self._broker is None else list(self._broker.config.broker_middlewares)
        for inside in reversed(around):
            if inside is self:
                return
            if isinstance(inside, ExceptionMiddleware):
                raise ConfigurationError(
                    "An ExceptionMiddleware was added after the scope of dbscope, so that an error "
                    "which it handles would be committed. Add it before `install(db, broker)`."
                )


class _InScope(BaseMiddleware[Any, Any]):
    """The scope around one message."""

    def __init__(self, msg: Any, /, *, context: ContextRepo, made_by: ScopeMiddleware) -> None:
        super().__init__(msg, context=context)
        self._made_by = made_by

    async def consume_scope(self, call_next: CallNext, msg: Any) -> Any:
        """Handle the message in a scope."""
        async with self._made_by.job(msg, self.context.get_local("handler_")):
            return await call_next(msg)


class RedeliveryMiddleware:
    """A middleware of a broker that has failed messages delivered again; the outermost one.

    Args:
        attempts: how often a message is delivered at most.
        delay: seconds before the second attempt; doubled for each further one.
        max_delay: seconds that it grows to.
    """

    def __init__(self, attempts: int = 5, delay: float = 1, max_delay: float = 60) -> None:
        self.attempts = attempts
        self._delay = delay
        self._max_delay = max_delay

    def __call__(self, msg: Any, /, *, context: ContextRepo) -> _Redelivery:
        """Make that of one message."""
        return _Redelivery(msg, context=context, policy=self)

    def delay(self, deliveries: int) -> float:
        """Return how many seconds to wait after so many deliveries."""
        return min(self._delay * 2.0 ** (deliveries - 1), self._max_delay)


class _Redelivery(BaseMiddleware[Any, Any]):
    """What is answered to the broker when one message has failed."""

    def __init__(self, msg: Any, /, *, context: ContextRepo, policy: RedeliveryMiddleware) -> None:
        super().__init__(msg, context=context)
        self._policy = policy

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,  # noqa: ARG002
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,  # noqa: ARG002
    ) -> bool:
        """Answer, unless the application has answered itself; the error goes on to the log."""
        message = self.context.get_local("message")
        is_failure = isinstance(exc_val, Exception) and not isinstance(exc_val, HandlerException)
        if is_failure and message is not None and self._is_ours(message):
            await self._answer(message)
        return False

    def _is_ours(self, message: Any) -> bool:
        policy = getattr(self.context.get_local("handler_"), "ack_policy", None)
        return policy in OURS_TO_ANSWER and message.committed is None

    async def _answer(self, message: Any) -> None:
        deliveries = await redelivery.deliveries_of(message, self._policy.attempts)
        if deliveries is None:
            return
        if deliveries < self._policy.attempts:
            await redelivery.again(message, self._policy.delay(deliveries))
            return
        logger.error(
            "The message %s has failed in all of %d deliveries, and is given up.",
            redelivery.id_of(message),
            deliveries,
        )
        await redelivery.give_up(message)
