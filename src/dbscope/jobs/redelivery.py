"""How the brokers of FastStream deliver a message again, and how they count.

Told by what a message can do, since each broker comes with packages of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

COUNT = "x-delivery-count"  # of quorum queues: how often it has come before


def id_of(message: Any) -> str:
    """Return what the message is called, by its sender or else by its place in the stream."""
    raw = _first(message)
    if found := message.headers.get("message_id") or message.headers.get("Nats-Msg-Id"):
        return str(found)
    if metadata := _of_jetstream(raw):
        return f"{metadata.stream}:{metadata.sequence.stream}"
    if ids := _ids_of_redis(message):
        return str(ids[0].decode())
    return str(message.message_id)


async def deliveries_of(message: Any, last: int) -> int | None:
    """Return how often the message was delivered; None where it does not come again.

    Args:
        message: of FastStream.
        last: what is told of a message that was delivered before, nobody knows how often.
    """
    raw = _first(message)
    if metadata := _of_jetstream(raw):
        return int(metadata.num_delivered)
    if _ids_of_redis(message):
        return int(await message.get_delivery_count())
    if hasattr(raw, "redelivered"):
        if COUNT in message.headers:
            return int(message.headers[COUNT]) + 1
        return last if raw.redelivered else 1
    return None


async def again(message: Any, delay: float) -> None:
    """Have the message delivered again, so many seconds later.

    RabbitMQ knows no delay, so we wait. Redis gives it to whoever claims it.
    """
    raw = _first(message)
    if _of_jetstream(raw):
        await message.nack(delay=delay)
    elif hasattr(raw, "redelivered"):
        await asyncio.sleep(delay)
        await message.nack(requeue=True)


async def give_up(message: Any) -> None:
    """Have the message not delivered again.

    RabbitMQ gives it to the dead letter exchange of its queue, and the streams of NATS and Redis
    keep it as they keep all.
    """
    await (message.ack() if _ids_of_redis(message) else message.reject())


def _first(message: Any) -> Any:
    """Return the broker's own message, the first one of a batch."""
    raw: Any = message.raw_message
    return next(iter(cast("Iterable[Any]", raw))) if isinstance(raw, list) else raw


def _of_jetstream(raw: Any) -> Any:
    """Return what JetStream tells of a message; None of one that it did not deliver."""
    is_its = str(getattr(raw, "reply", "")).startswith("$JS.ACK")
    return raw.metadata if is_its else None


def _ids_of_redis(message: Any) -> list[bytes]:
    """Return the places of a message in a stream of Redis."""
    raw: Any = message.raw_message
    found = cast("dict[str, Any]", raw).get("message_ids") if isinstance(raw, dict) else None
    return found or []
