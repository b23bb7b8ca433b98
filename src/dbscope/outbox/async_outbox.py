"""`AsyncOutbox`: send with the work of async code, relay afterwards."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

from dbscope.aio import concurrency, threads
from dbscope.outbox import store, wake
from dbscope.outbox.base import AWAY, ISOLATION, PATIENCE, OutboxBase, dead_messages, logger
from dbscope.outbox.message import Message, message_of
from dbscope.outbox.outbox import Outbox
from dbscope.outbox.store import Report
from dbscope.outbox.wake import AsyncBell
from dbscope.scopes.outside import outside
from dbscope.unit.current import unit_of


class AsyncOutbox(OutboxBase):
    """The outbox of an `AsyncDatabase`; see `OutboxBase` for what it takes.

    A message that is sent in a transaction is there exactly if that is committed. A relay publishes
    it at least once, and those of one key in their order.

    Example:
        >>> outbox = AsyncOutbox(db, publish)
        >>> await outbox.send("orders", {"id": order.id}, key=str(order.customer_id))
    """

    @cached_property
    def sync(self) -> Outbox:
        """The companion for plain code, which stores into the same table."""
        made = Outbox(self.db.sync, self.publish, notify=self.notify)
        made.bells = self.bells
        return made

    async def send(
        self,
        topic: str,
        body: Any,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Store a message with the work of the current transaction.

        Args:
            topic: where it belongs.
            body: bytes, or what JSON can hold.
            key: messages of one key are relayed in their order.
            headers: texts that go with it.

        Returns:
            Its id.

        Raises:
            TransactionRequired: outside a transaction.
            TypeError: it cannot be stored.
        """
        unit = unit_of(self.db._source)  # noqa: SLF001
        return await concurrency.in_greenlet(self._add, unit, topic, body, key, headers)

    async def relay_once(self) -> int:
        """Publish what is due, one batch of it.

        Returns:
            How many messages were tried; 0 as well if another relay has all, or has SQLite.
        """
        if self._alone is None:
            async with self.db.atomic(isolation=ISOLATION):
                session = self.db.session
                rows = await session.run_sync(store.take, self.batch, lock=True)
                await session.run_sync(self._settle, await self._publish(rows))
            return len(rows)
        if not await threads.in_thread(self._alone.take):
            return 0
        try:
            return await self._relay_alone()
        finally:
            await threads.in_thread(self._alone.give_back)

    async def _relay_alone(self) -> int:
        """Do so on SQLite, which others may write to while a message is published."""
        async with self.db.scope(readonly=True):
            rows = await self.db.session.run_sync(store.take, self.batch, lock=False)
        if rows:
            report = await self._publish(rows)
            async with self.db.scope():
                await self.db.session.run_sync(self._settle, report)
        return len(rows)

    async def _publish(self, rows: list[Any]) -> Report:
        report = Report()
        for row in rows:
            if self._is_to_be_published(row, report):
                try:
                    async with asyncio.timeout(self.timeout):
                        await self._publish_one(message_of(row))
                except Exception as error:
                    self._failed(report, row, error)
                else:
                    report.published.append(row.id)
        return report

    async def _publish_one(self, message: Message) -> None:
        """Publish in a task of its own: what is cancelled there is not the relay."""
        with outside():
            task = asyncio.create_task(self._call(message))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
        if task.cancelled():
            raise ConnectionError("publish() was cancelled")
        task.result()

    async def _call(self, message: Message) -> None:
        if self._waits:
            await self.publish(message)
            return
        result = await threads.in_thread(self.publish, message)
        if inspect.isawaitable(result):
            await result

    async def relay(self) -> None:
        """Publish what is due and what comes, until `stop()` or a cancellation.

        On PostgreSQL and MariaDB as many relays as you like may run; on SQLite the others wait.
        """
        bell = AsyncBell()
        self.bells.add(bell)
        self._stopped = False
        try:
            async with wake.listening(self, bell.ring):
                while not self._stopped:
                    if await self._round() < self.batch and not self._stopped:
                        await bell.wait(self.poll)
        finally:
            self.bells.discard(bell)

    async def _round(self) -> int:
        try:
            return 0 if self.rests else await self.relay_once()
        except AWAY as error:
            logger.error("The relay of %s will try again: %s", self.db, error)
            return 0

    async def dead(self) -> list[tuple[Message, str]]:
        """Return the messages that have failed too often, each with its last error."""
        async with self.db.scope(readonly=True):
            return await self.db.session.run_sync(dead_messages)  # type: ignore[no-any-return]

    async def revive(self) -> int:
        """Let the dead be tried again; return how many."""
        async with self.db.scope():
            return await self.db.session.run_sync(store.revive)  # type: ignore[no-any-return]

    async def waiting(self) -> int:
        """Return how many messages are still to be relayed."""
        async with self.db.scope(readonly=True):
            return await self.db.session.run_sync(store.waiting)  # type: ignore[no-any-return]

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncGenerator[None]:  # noqa: ARG002
        """Relay while an application runs; what is begun is ended before it stops."""
        task = asyncio.create_task(self.relay())
        try:
            yield
        finally:
            self.stop()
            done, _ = await asyncio.wait([task], timeout=PATIENCE)
            if not done:
                task.cancel()
                await asyncio.wait([task])

    def install(self, app: Any) -> None:
        """Relay in the processes of a Starlette or FastAPI application, while it runs."""
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def with_relay(app: Any) -> AsyncGenerator[Any]:
            # Inside: what `publish` and the relay need is there before them, and closed after them.
            async with inner(app) as state, self.lifespan(app):
                yield state

        app.router.lifespan_context = with_relay
