"""`dbscope once purge` and `dbscope outbox`: what is kept, and what is to be relayed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbscope import AsyncDatabase
from dbscope.backends.doctor import plural
from dbscope.cli.find import AnyDatabase, Found, is_known, modules_of
from dbscope.cli.say import Refusal, say

if TYPE_CHECKING:
    from dbscope.outbox import AsyncOutbox, Message, Outbox

STOPPING = (signal.SIGINT, signal.SIGTERM)


class OnceAction(StrEnum):
    """What may be done to the rows of `once`."""

    PURGE = "purge"


class OutboxAction(StrEnum):
    """What may be done to the messages."""

    RELAY = "relay"
    FLUSH = "flush"
    DEAD = "dead"
    REVIVE = "revive"


def once(found: Found, action: Annotated[OnceAction, typer.Argument(help="purge")]) -> None:  # noqa: ARG001
    """Delete keys of `db.once` that were kept for long enough."""
    from dbscope.once import purge

    db = found.database
    number = asyncio.run(ended(db, purge(db))) if isinstance(db, AsyncDatabase) else purge(db)
    say(f"{plural(number, 'row')} deleted.")


def outbox(
    found: Found,
    action: Annotated[
        OutboxAction, typer.Argument(help="relay, until it is stopped; flush; dead; revive.")
    ] = OutboxAction.RELAY,
) -> None:
    """Relay the messages of the outbox; or look at the dead ones."""
    box = outbox_of(found)
    if isinstance(found.database, AsyncDatabase):
        asyncio.run(ended(found.database, do_async(box, action)))
    else:
        do(box, action)


def outbox_of(found: Found) -> Any:
    """Return the outbox that a module of the application holds, of the database that is meant.

    Raises:
        Refusal: there is none, or several.
    """
    boxes = {id(box): box for box in outboxes(found, found.database)}
    if len(boxes) != 1:
        problem = "several outboxes; one module should hold one" if boxes else "no outbox"
        raise Refusal(f"{found.target} has {problem}: `outbox = AsyncOutbox(db, publish)`.")
    return next(iter(boxes.values()))


def outboxes(found: Found, db: AnyDatabase) -> Iterator[AsyncOutbox | Outbox]:
    """Give the outboxes of a database that the modules of the application hold."""
    from dbscope.outbox import AsyncOutbox, Outbox

    for module in modules_of(found.module):
        for value in list(vars(module).values()):
            if isinstance(value, AsyncOutbox | Outbox) and is_known(value.db, {"": db}):
                yield value


async def ended(db: AsyncDatabase[Any], work: Any) -> Any:
    """Await the work, and close the connections."""
    try:
        return await work
    finally:
        await db.dispose()


async def do_async(box: AsyncOutbox, action: OutboxAction) -> None:
    """Do it, by an `AsyncOutbox`."""
    if action is OutboxAction.RELAY:
        for each in STOPPING:
            with suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(each, box.stop)
        say("Relaying.")
        await box.relay()
    elif action is OutboxAction.FLUSH:
        number = 0
        while tried := await box.relay_once():
            number += tried
        tell_flushed(number, await box.waiting())
    elif action is OutboxAction.DEAD:
        show_dead(await box.dead())
    else:
        say(f"{plural(await box.revive(), 'message')} will be tried again.")


def do(box: Outbox, action: OutboxAction) -> None:
    """Do it, by an `Outbox`."""

    def stop(*_: object) -> None:
        box.stop()

    if action is OutboxAction.RELAY:
        for each in STOPPING:
            signal.signal(each, stop)
        say("Relaying.")
        box.relay()
    elif action is OutboxAction.FLUSH:
        tried = count = box.relay_once()
        while tried:
            tried = box.relay_once()
            count += tried
        tell_flushed(count, box.waiting())
    elif action is OutboxAction.DEAD:
        show_dead(box.dead())
    else:
        say(f"{plural(box.revive(), 'message')} will be tried again.")


def tell_flushed(number: int, left: int) -> None:
    """Say what came of it."""
    say(f"{plural(number, 'message')} tried, {left} left.")


def show_dead(dead: list[tuple[Message, str]]) -> None:
    """Print a line for each."""
    if not dead:
        say("No message is dead.")
    for message, error in dead:
        say(f"{message.id} {message.topic} {message.created_at:%Y-%m-%d %H:%M:%S}: {error}")
