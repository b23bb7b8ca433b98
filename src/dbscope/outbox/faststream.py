"""Publish messages by a broker of FastStream.

What each broker needs so that `publish` returns only when it has the message is said beside it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dbscope.errors import ConfigurationError
from dbscope.outbox.message import Message

Options = dict[str, Any]


def _nats(message: Message) -> Options:
    # With `stream=` JetStream acknowledges; it drops a second message of the same id by itself.
    headers = {"Nats-Msg-Id": message.id, **message.headers}
    return {"subject": message.topic, "headers": headers}


def _rabbit(message: Message) -> Options:
    # The connection confirms what it publishes, unless it was told not to.
    arguments = {"queue": message.topic, "message_id": message.id, "headers": dict(message.headers)}
    return {**arguments, "persist": True}


def _redis(message: Message) -> Options:
    # A stream keeps what nobody has read yet; a channel would not.
    return {"stream": message.topic, "headers": _with_id(message)}


def _kafka(message: Message) -> Options:
    key = None if message.key is None else message.key.encode()
    return {"topic": message.topic, "key": key, "headers": _with_id(message)}


def _with_id(message: Message) -> dict[str, str]:
    return {"message-id": message.id, **message.headers}


BROKERS: dict[str, Callable[[Message], Options]] = {
    "nats": _nats,
    "rabbit": _rabbit,
    "redis": _redis,
    "kafka": _kafka,
    "confluent": _kafka,
}


def publisher(broker: Any, **options: Any) -> Callable[[Message], Awaitable[None]]:
    """Return what an `AsyncOutbox` publishes by.

    The consumer finds the id of the message as `message.message_id` (RabbitMQ), or in the header
    `message-id` (Redis, Kafka) or `Nats-Msg-Id`: give it to `db.once`.

    Args:
        broker: of FastStream, for NATS, RabbitMQ, Redis or Kafka; it is connected by whoever
            runs it.
        options: of its `publish`, for all messages: `stream="orders"` for JetStream of NATS.

    Raises:
        ConfigurationError: it is a broker of another kind.

    Example:
        >>> outbox = AsyncOutbox(db, publisher(NatsBroker(), stream="orders"))
    """
    parts = [part for cls in type(broker).__mro__ for part in cls.__module__.split(".")]
    kind = next((part for part in parts if part in BROKERS), None)
    if kind is None:
        raise ConfigurationError(
            f"{broker!r} is no broker of FastStream for {', '.join(BROKERS)}. Give the outbox a "
            "function of a message instead, which publishes it."
        )
    address = BROKERS[kind]

    async def publish(message: Message) -> None:
        await broker.publish(message.value, **{**address(message), **options})

    return publish
