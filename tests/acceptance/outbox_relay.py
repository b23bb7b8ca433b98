"""A relay in a process of its own, which publishes by writing lines to a file."""

from __future__ import annotations

import asyncio
import os
import sys

from dbscope import AsyncDatabase
from dbscope.outbox import AsyncOutbox, Message


async def main(url: str, file: str) -> None:
    """Relay until somebody kills it."""
    target = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def publish(message: Message) -> None:
        os.write(target, f"{message.key} {message.value}\n".encode())  # whole, or not at all

    outbox = AsyncOutbox(AsyncDatabase(url), publish, batch=20, poll=0.05)
    await outbox.relay()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
