"""The end of the time of an async block, whatever the code inside is waiting for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from dbscope.unit import deadline

if TYPE_CHECKING:
    from dbscope.unit.block import Block

GRACE = 0.05  # seconds: the database goes first, for its way leaves the connection usable


async def start(block: Block) -> None:
    """Cancel the code inside at the deadline of the block."""
    if block.deadline is not None:
        timer = asyncio.timeout(block.deadline - monotonic() + GRACE)
        block.timer = await timer.__aenter__()


async def stop(block: Block, error: BaseException | None) -> BaseException | None:
    """Stop the clock, before COMMIT; return TransactionTimeout in place of its cancellation.

    Args:
        block: the block.
        error: what is leaving it.
    """
    timer: asyncio.Timeout = block.timer
    block.timer = None
    try:
        await timer.__aexit__(None if error is None else type(error), error, None)
    except TimeoutError:
        return deadline.error_of(block)
    if timer.expired():
        with suppress(asyncio.CancelledError):  # it came too late to be noticed inside
            await asyncio.sleep(0)
    return error
