"""What the shop tells others, if `BROKER_URL` is set: that an order was placed.

The message is stored with the order, and published afterwards: never for an order that is not
there, and at least once. Who hears of it does its work once by the id of the message.
"""

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from dbscope import ConfigurationError, masked
from dbscope.outbox import AsyncOutbox, Message
from server.config import BROKERS, settings
from server.db.database import db
from server.models import Order

logger = logging.getLogger("server.events")
PLACED = "orders.placed"
PATIENCE = 5.0  # seconds


class Broker:
    """The broker that is told, connected when it is first needed.

    Args:
        url: where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connected: Any = None
        self._publish: Any = None  # by which it is told, when it is connected

    def check(self) -> None:
        """Look whether what speaks to it is installed.

        Raises
        ------
        ConfigurationError
            It is not.
        """
        module, _ = BROKERS[urlsplit(self.url).scheme]
        try:
            importlib.import_module(module)
        except ImportError as error:
            extra = module.rpartition(".")[2]
            raise ConfigurationError(
                f"BROKER_URL wants FastStream: pip install 'faststream[{extra}]'."
            ) from error

    async def connect(self) -> None:
        """Connect, and make what keeps the messages until somebody reads them."""
        from dbscope.outbox.faststream import publisher

        scheme = urlsplit(self.url).scheme
        module, name = BROKERS[scheme]
        library = importlib.import_module(module)
        broker = getattr(library, name)(self.url, logger=None)
        options: dict[str, Any] = {}
        if scheme == "nats":
            options["stream"] = "orders"
            stream = library.JStream("orders", subjects=["orders.*"], declare=True)
            broker.publisher(PLACED, stream=stream)
        await broker.start()
        if scheme in ("amqp", "amqps"):
            await broker.declare_queue(library.RabbitQueue(PLACED, durable=True))
        self._connected, self._publish = broker, publisher(broker, **options)

    async def publish(self, message: Message) -> None:
        """Publish a message; return when the broker has it."""
        if self._connected is None:
            await self.connect()
        await self._publish(message)

    async def ping(self) -> None:
        """Look whether it answers; some libraries connect only when there is something to send."""
        if not await self._connected.ping(PATIENCE):
            raise ConnectionError("no answer")

    async def close(self) -> None:
        """Hang up."""
        if self._connected is not None:
            await self._connected.stop()


broker = Broker(settings.broker_url.get_secret_value()) if settings.broker_url else None
# For as long as a broker may be away: with pauses of 5 minutes that is a day.
outbox = AsyncOutbox(db, broker.publish, attempts=300) if broker else None


async def placed(order: Order) -> None:
    """Tell that an order was placed, if it is."""
    if outbox is None:
        return
    lines = [{"item_id": line.item_id, "quantity": line.quantity} for line in order.lines]
    told = {"order_id": order.id, "user_id": order.user_id, "total": str(order.total)}
    await outbox.send(PLACED, {**told, "lines": lines}, key=f"user {order.user_id}")


def check() -> None:
    """Look at the start whether there is all that is needed."""
    if broker is not None:
        broker.check()


@asynccontextmanager
async def relayed() -> AsyncIterator[None]:
    """Publish what is stored, as long as it lasts."""
    if broker is None or outbox is None:
        yield
        return
    try:
        async with asyncio.timeout(PATIENCE):
            await broker.connect()
            await broker.ping()
    except Exception as error:  # whatever the libraries raise; orders go on
        told = f"{type(error).__name__}: {masked(str(error))}"
        logger.warning("The broker does not answer; orders are told of when it does. %s", told)
    try:
        async with outbox.lifespan():
            yield
    finally:
        await broker.close()
